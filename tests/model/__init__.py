"""Model of how a partition changes hands: every interleaving of small configurations, breadth first.

``protocols`` has the protocol of the engine and others, sound and broken, as data. ``state`` says what a
state consists of, ``kafka``, ``group`` and ``worker`` what can happen. ``search`` visits every state and
checks two properties. ``make model`` prints the results, which
docs/decisions/0028-a-claim-before-the-fence.md explains.
"""
