"""Charge points that are not there: for demonstrations, first steps and load.

From the wire upwards::

    frames        OCPP-J arrays as a charge point writes and reads them
    connection    one WebSocket: one CALL in flight, the CSMS's CALLs answered
    errors        why there is no connection, or no answer, and what to do about it
    plan          how they spend their time, and what the CSMS may change of it
    meter         a car that charges: energy, power, current, state of charge
    messages_*    what a charge point of each version says
    outbox        what it still has to say: transaction messages outlive a lost connection
    connector     cars come, charge and leave
    controls      what the CSMS can make it do
    memory        what it keeps because the CSMS told it to
    answers*      what it answers to each action of its version
    charge_point  its life: connect, boot, charge, stop, come back
    fleet, tally  many of them, and what they have done together

A client of its own, on ``websockets`` and asyncio, that shares no code with the gateway's side of the protocol: what
one side gets wrong, the other must not agree with.
"""
