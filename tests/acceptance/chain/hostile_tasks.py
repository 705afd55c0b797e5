"""The tasks of a hostile producer's sessions, beside those of the plan, under bounds that it can reach."""

from __future__ import annotations

from tests.acceptance.chain.plan import RUN, TASKS

FORGED = "2026-11-29 00:00:00,000 ERROR triggerstream: forged"
"""A line that must not be in any log or output, as the beginning of one."""
HOSTILE = f"evil\n{FORGED}\r\n{FORGED}\u2028{FORGED}\u0085{FORGED}\x1b[2J\x9b1m\u202e[bold red]"
"""A session id, a trigger, a result, an error: every place where a text comes from outside."""
ANSWER = "chain.answer"
FAIL = "chain.fail_loudly"
EVIL = "chain.evil"
"""The task of a configuration that no holder of the key has applied."""

TRIGGER_NAMES = 16
UNRESOLVED = 12
STATE_BYTES = 64 * 1024
COMMAND_BYTES = 32 * 1024
DECIDED_BYTES = 48 * 1024

HOSTILE_TASKS = f"""{TASKS.rstrip().removesuffix("}")}
  // No session of the plan comes near these.
  "$bounds": {{
    "triggerNames": {TRIGGER_NAMES}, "unresolvedInstances": {UNRESOLVED}, "stateBytes": {STATE_BYTES},
    "commandBytes": {COMMAND_BYTES}, "decidedBytes": {DECIDED_BYTES}, "resolvedInstances": 5,
  }},
  "t_page": {{"andEvery": "page", "after": [], "run": "{ANSWER}"}},
  "t_loud": {{"andEvery": "loud", "after": [], "run": "{FAIL}"}},
  // Their instances stay open: soon there is no room for one more, though the outcomes go on.
  "t_follows": {{"andEvery": "t_page", "after": ["never"], "run": "{RUN}"}},
  "t_follows_too": {{"andEvery": "t_page", "after": ["never"], "run": "{RUN}"}},
  "t_open": {{"andEvery": "open", "after": ["never"], "run": "{RUN}"}},
  "t_heavy": {{"after": ["heavy", "never"], "run": "{RUN}"}},
  "t_wide": {{"andEvery": "wide", "after": [], "run": "{ANSWER}"}},
  "t_wider": {{"andEvery": "wide", "after": [], "run": "{ANSWER}"}},
}}"""
