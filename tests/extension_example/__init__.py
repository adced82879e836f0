"""Extensions as somebody else would write them, one module each, registered by a call: a source, a format, a family, an engine,
a tracker, a store.

`descriptions.py` is the part that both planes know. Nothing here is found by itself: tests register it, and withdraw it again.
"""
