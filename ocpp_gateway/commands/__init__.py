"""Back end to charge point: a command from Kafka becomes a CALL, and its answer exactly one final event.

::

    request ── dispatcher ── begun in Redis ── who has the charge point?
      (node that read it)          ├─ nobody ──> CommandFailed, or parked
                                   └─ owner ── executor ── translation ── the session's outbox ── CALL
                                                  └─ outcome <── answer, silence or a lost connection

Ports that others implement are in ``states``.
"""
