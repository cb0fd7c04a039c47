"""Answers that only the CSMS can give: a CALL's event asks, a record on the reply topic answers.

Which actions and what without an answer is in ``policy``, who waits in ``questions``, what an answer looks like in
``answers``, and what an answer to BootNotification means for later CALLs in ``boot``.
"""
