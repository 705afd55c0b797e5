"""Supervision of `triggerstream worker` and `bridge`: a small parent process, and the process that works.

The parent (:mod:`triggerstream.supervision.parent`) starts the process that works, starts it again after a
failure that a restart can cure, and holds the sockets that it listens on meanwhile. It imports the standard
library only, so that it stays small, and shares no state with its child but what comes over the channel
(:mod:`triggerstream.supervision.channel`). The child's end is :mod:`triggerstream.supervision.child`.
"""
