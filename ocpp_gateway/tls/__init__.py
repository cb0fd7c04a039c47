"""TLS on the OCPP port: whose certificates, which clients, how they are replaced without a restart.

* ``material``     what is served and trusted, as values that have been checked
* ``pem``          PEM files taken apart
* ``servers``      our certificates and their keys, matched
* ``authorities``  the CA bundle for client certificates
* ``revocation``   certificate revocation lists of those CAs, read
* ``revoked``      who is revoked by the lists in force
* ``files``        all of it read from the operator's files, or every problem with them
* ``policy``       protocol versions and cipher suites; whether clients need a certificate
* ``contexts``     OpenSSL's contexts made of material and policy; how a client certificate is judged
* ``reloading``    the contexts in force, replaced when the files change
* ``facts``        what /metrics tells about it
* ``failures``     why a TLS handshake failed, as a stable label
"""
