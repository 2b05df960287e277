"""Bad input on purpose: a conformance driver of RFC 6455 and a fuzzer, against both services.

frames       a client's WebSocket frames, also those that no client may send
peer         a raw TCP client that reads whatever comes back
targets      whom to abuse: replicas of this machine, or a stack of one's own behind nginx
vitals       what must be the same after abuse as before: process, slots, sockets, tasks, descriptors, memory
cases        the conformance cases, as data
conformance  runs them
inputs       hypothesis strategies: what the fuzzer sends
fuzz         sends it, and judges the answers
"""
