"""Answers about sessions as JSON: keys, their order, and which of them are left out."""

from __future__ import annotations

from msgspec import structs

from tests.core.story import SECOND, START_US, Story, task
from triggerstream.core.answers import ExplainedSession
from triggerstream.core.ids import JsonObject
from triggerstream.core.projections import explain
from triggerstream.wire.answers import from_json, to_json
from triggerstream.wire.instants import format_instant
from triggerstream.wire.json import dumps

TASKS: JsonObject = {"t": task("a", unless=["no"]), "u": task("t", "b", andEvery="c")}


def test_explained_session_has_these_keys_in_this_order() -> None:
    """Programs read it: a key that goes, or is renamed, breaks them."""
    story = Story(TASKS)
    story.fire("a", {"n": 1}, id="1", source="shop")
    story.started("t#0", at=1.5)
    story.finished("t#0", {"clockUs": 7, "atUs": 8}, at=2)
    story.skip("t#0")
    assert story.state is not None
    found = structs.replace(explain(story.rules, story.session, story.state), partition=3)
    shown = to_json(found)
    assert from_json(shown, ExplainedSession) == found
    command, config = story.commands[0].id, story.rules.current.config.hash
    at = [format_instant(START_US + seconds * SECOND // 2) for seconds in (0, 3, 4)]
    by = f'{{"offset":0,"time":"{at[0]}","id":"1","source":"shop"}}'
    by_a = f'{by[:-1]},"data":{{"n":1}}}}'
    leaf = f'{{"leaf":"a","trigger":"a","met":true,"need":1,"have":1,"by":[{by_a}]}}'
    after = f'{{"all":[{leaf}],"need":1,"have":1,"met":true}}'
    no = '{"leaf":"no","trigger":"no","met":false,"need":1,"have":0}'
    result = '{"clockUs":7,"atUs":8}'
    follows = f'{{"offset":2,"time":"{at[2]}"}}'
    expected = (
        f'{{"session":"{story.session}","generation":0,"closed":false,"clock":"{at[2]}",'
        f'"offset":3,"config":{{"met":"{config}","inForce":"{config}"}},"waitsFor":["b","c"],"tasks":['
        f'{{"task":"t","inForce":true,"run":"my_app.tasks.run","after":["a"],"unless":["no"],"instances":['
        f'{{"instance":"t#0","status":"finished","says":"finished","after":{after},'
        f'"created":"{at[0]}","changed":"{at[2]}",'
        f'"unless":{{"all":[{no}],"need":1,"have":0,"met":false}},"command":"{command}",'
        f'"run":"my_app.tasks.run","kwargs":{{"a":{{"n":1}}}},"config":"{config}","attempt":0,"retries":0,'
        f'"completedBy":{{"trigger":"a","by":{by}}},'
        f'"decided":"{at[0]}","decidedAt":0,"started":"{at[1]}",'
        f'"ended":"{at[2]}","result":{result}}}]}},'
        f'{{"task":"u","inForce":true,"run":"my_app.tasks.run","after":["t","b","c"],"andEvery":"c",'
        f'"instances":[{{"instance":"u#0","status":"unstarted","says":"waits for b and c","after":'
        f'{{"all":[{{"leaf":"t","trigger":"t","met":true,"need":1,"have":1,'
        f'"by":[{follows[:-1]},"data":{result}}}],"became":[{{"instance":"t#0","status":"finished"}}]}},'
        f'{{"leaf":"b","trigger":"b","met":false,"need":1,"have":0}},'
        f'{{"leaf":"c","trigger":"c","met":false,"need":1,"have":0}}],"need":3,"have":1,"met":false}},'
        f'"created":"{at[2]}","changed":"{at[2]}"}}]}}],'
        f'"seen":[{{"trigger":"a","by":{by},"usedBy":["t"]}},'
        f'{{"trigger":"t","by":{follows},"usedBy":["u"]}}],"refused":1,"timeline":['
        f'{{"offset":0,"time":"{at[0]}","what":"arrived","type":"a"}},'
        f'{{"offset":0,"time":"{at[0]}","what":"decided","instance":"t#0",'
        f'"run":"my_app.tasks.run","command":"{command}","because":[{{"trigger":"a","by":{by}}}]}},'
        f'{{"offset":1,"time":"{at[1]}","what":"reported",'
        f'"type":"triggerstream.task.started","note":"t#0 running"}},'
        f'{{"offset":2,"time":"{at[2]}","what":"reported",'
        f'"type":"triggerstream.task.finished","note":"t#0 finished"}},'
        f'{{"offset":3,"time":"{at[2]}","what":"refused",'
        f'"type":"triggerstream.instance.skip","why":"wrong status",'
        f'"note":"t#0 is finished: only a failed one can be skipped"}}],"partition":3,'
        f'"lastEvent":"2026-01-01T00:00:02Z"}}'
    )
    assert dumps(shown).decode() == expected
