"""What a scanner was after: names for the request targets that no charge point sends.

This refuses nothing by itself: a target that is not an OCPP path with a well-formed identity is refused anyway. The
kind goes into the log and the metrics, where a wave of ``wordpress`` reads differently from a fleet with a wrong URL.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

_MAX_DECODINGS: Final = 3
_MAX_LENGTH: Final = 1024

# In this order: what would do most harm first. All are matched against the lower-case, fully decoded target.
_KINDS: Final = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("control_bytes", r"[\x00-\x1f\x7f]"),
        ("traversal", r"(?:^|[/\\=])\.\.(?:[/\\;]|$)"),
        ("passwd", r"passwd|/etc/shadow|boot\.ini|win\.ini"),
        ("injection", r"<script|javascript:|\$\{|\{\{|`|\$\(|/bin/(?:ba)?sh|cmd\.exe|powershell"),
        (
            "sql",
            r"union(?:[\s+]|/\*[^*]*\*/)+(?:all[\s+]+)?select|information_schema|xp_cmdshell|waitfor[\s+]+delay"
            r"|(?:sleep|benchmark|pg_sleep)\(|['\"][\s+]*(?:--|#|;|\bor\b|\band\b)|(?:\bor\b|\band\b)[\s+]+['\"]?\d+['\"]?="
            r"|;[\s+]*(?:drop|insert|delete|update|select)\b|insert[\s+]+into\b|\bselect\b.{1,200}\bfrom\b",
        ),
        ("dotfile", r"/\.(?:env|git|svn|hg|aws|ssh|ht|ds_store|vscode|idea|docker|kube|npmrc|config|well-known)"),
        ("wordpress", r"/wp-|/wordpress|xmlrpc"),
        ("phpmyadmin", r"phpmyadmin|/pma(?:/|$)|/myadmin|adminer"),
        ("script", r"\.(?:php\d?|phtml|aspx?|jsp|cgi|action)(?:[/?;]|$)|/cgi-bin|/boaform|/hnap1"),
        ("admin", r"/_?admin|/manager(?:/|$)|/console(?:/|$)|/actuator|/jenkins|/solr|/druid|/server-status"),
        ("login", r"(?:log|sign)[-_]?in(?![a-z])|/logon|/oauth"),
        ("backup", r"\.(?:bak|old|sql|zip|tar|tgz|gz|7z|rar|swp|pem|key|log)(?:\?|$)"),
    )
)


def suspicion(target: str) -> str | None:
    """The kind of scan ``target`` belongs to, or None. Escapes are undone repeatedly, as scanners nest them."""
    text = target[:_MAX_LENGTH]
    for _ in range(_MAX_DECODINGS):
        decoded = unquote(text, errors="replace")
        if decoded == text:
            break
        text = decoded
    text = text.lower()
    return next((kind for kind, pattern in _KINDS if pattern.search(text)), None)
