"""Supervision of `triggerstream worker` and `bridge`: a small parent process, and a child that does the work.

The parent (:mod:`triggerstream.supervision.parent`) starts the child, restarts it after a failure that a
restart can cure, and holds its listening sockets meanwhile. It imports only the standard library, so that it
stays small. Parent and child communicate only over the channel (:mod:`triggerstream.supervision.channel`).
The child's side is :mod:`triggerstream.supervision.child`.
"""
