"""The wire contract of both services, each message defined once; docs/protocol.md tells it in prose.

`common` holds what both services say, `asr` and `tts` their own messages and settings, and
`settings` the one way in which settings are read from a `config` message or a query string.
"""
