"""A change is told to the process that made it at once, and to the others over NATS."""

from infra.broker import Broker
from infra.notifications import KEYS_CHANGED, Notifications
from tests.support.waiting import eventually


async def test_a_change_is_known_where_it_was_made_before_it_is_answered(nats_url: str) -> None:
    here, there = Broker(), Broker()
    known_here: list[str] = []
    known_there: list[str] = []
    for broker, known in ((here, known_here), (there, known_there)):
        await broker.connect([nats_url], name="tests")
        await Notifications(broker).on_change(KEYS_CHANGED, known.append)
    await there.client.flush()
    notifications = Notifications(here)
    await notifications.on_change(KEYS_CHANGED, known_here.append)
    await notifications.keys_changed("prj_1")
    assert known_here[0] == "prj_1"
    await eventually(lambda: known_there == ["prj_1"])
    await here.close()
    known_here.clear()
    await notifications.keys_changed("prj_2")
    assert known_here == ["prj_2"], "without a broker, too"
    await there.close()
