"""Extensions as somebody else would write them: a source, a format, a family, an engine, one module each, registered by a call.

`descriptions.py` is the part that both planes know. Nothing here is found by itself: tests register it, and withdraw it again.
"""
