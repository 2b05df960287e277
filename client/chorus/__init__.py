"""Client library of Chorus, the self-hosted real-time speech stack.

`aio` and `sync` open streams; `asr` and `tts` are the protocol they share, free of I/O; `transcription` and
`speech` do a whole job in one call; `wire` is the contract, which the servers use too.
"""

__version__ = "0.1.0"
