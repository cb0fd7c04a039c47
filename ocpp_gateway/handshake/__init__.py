"""From the bytes of an opening handshake to the charge point and the OCPP version it asks for.

Nothing here does I/O or imports Twisted. In the order in which a request passes through:

* ``request``      the header block, parsed once and strictly
* ``upgrade``      is it a WebSocket opening handshake, and what of it the WebSocket library may see
* ``path``         the OCPP version and the identity that the target names
* ``suspicious``   the kind of scan that a refused target belongs to
* ``subprotocol``  what is offered, what is chosen
* ``proxies``      the address that a request really comes from
* ``reasons``      every reason for which a handshake is refused, with its HTTP status
"""
