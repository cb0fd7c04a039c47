"""May this charge point connect? The identity record, the credential, and the rules that join them.

* ``errors``         what can be wrong: AuthenticationFailed, IdentityRecordInvalid
* ``fields``         reading a record's members by their types
* ``next_secrets``   passwords of which nobody knows yet whether they count
* ``record``         the identity record of Redis as a value
* ``addresses``      lists of allowed addresses
* ``credentials``    what the request's header fields carry, as bytes
* ``hashing``        the stored forms of passwords and tokens
* ``hashthreads``    slow hashes, off the reactor and bounded
* ``verified``       memory of credentials that were right a moment ago
* ``certificates``   what a client certificate says about itself
* ``names``          distinguished names in all their spellings
* ``bindings``       is the certificate the charge point's own
* ``authenticator``  the rules, in the contract's order
* ``standing``       would the record as it is now still let a live session in
* ``rewriting``      credentials that the gateway itself changes
"""
