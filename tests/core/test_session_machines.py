"""The two halves of a session, without sockets: connections that break, processes that come and go, and the clock."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from raybook.base.config import Config
from raybook.base.specs import Endpoint
from raybook.core.session import client as c
from raybook.core.session import server as s
from raybook.core.session.pulse import SIGN_OF_LIFE_MS, SILENCE_MS
from raybook.protocol.messages.session import (
    SESSION_ENDED,
    TAKEN_OVER,
    UNKNOWN_SESSION,
    Batch,
    Knock,
    TurnedAway,
    Welcome,
)

IDLE_S = 60.0
SESSION = b"session1"


def knock(process: bytes = b"process1", session_id: bytes = b"", received: int = 0) -> Knock:
    return Knock(process, session_id, "analysis", received, 1, "3.11.4", "1.0", who=f"ann, {process.decode()}")


def welcome(received: int = 0, idle_s: float = IDLE_S) -> Welcome:
    me = Endpoint(b"owner---", b"node----", "unix:/x")
    return Welcome(SESSION, "analysis", received, me, b"job-----", "", "/x", "", Config(), 1, True, idle_s)


def a_client(now_ms: int = 0) -> c.ClientMachine:
    return c.ClientMachine(welcome(), "head:10001", now_ms)


def a_server(now_ms: int = 0) -> s.ServerMachine:
    return s.ServerMachine("analysis", SESSION, int(IDLE_S * 1000), now_ms)


def of_type(effects: list[object], kind: type) -> list[object]:
    return [effect for effect in effects if type(effect) is kind]


# --- the client -------------------------------------------------------------------------------------------------------


def test_client_dials_at_once_when_its_connection_breaks():
    client = a_client()
    assert client.handle([c.Broke(1, "reset")], 10) == [c.Dial(2, 0)]
    assert client.state == c.DIALLING


def test_client_pauses_longer_each_time_nobody_answers():
    client = a_client()
    client.handle([c.Broke(1, "reset")], 0)
    pauses = []
    now_ms = 0
    for _ in range(8):
        client.handle([c.Broke(client.attempt, "refused")], now_ms)
        begin_ms = now_ms
        while client.state == c.PAUSING:
            now_ms = client.next_deadline_ms()
            client.handle([], now_ms)
        pauses.append(now_ms - begin_ms)
    assert pauses == [100, 200, 400, 800, 1600, 2000, 2000, 2000]


def test_client_goes_on_behind_what_the_session_has():
    client = a_client()
    for body in (b"one", b"two"):
        client.stream.send(body)
    client.take(0)
    client.handle([c.Broke(1, "reset")], 10)
    client.handle([c.Welcomed(2, welcome(received=1))], 20)
    assert client.take(20).bodies == [b"two"]


def test_client_sends_nothing_while_it_is_not_connected():
    client = a_client()
    client.handle([c.Broke(1, "reset")], 10)
    client.stream.send(b"one")
    assert client.take(10) is None


def test_client_gives_up_when_the_session_must_have_ended_and_says_so():
    client = a_client()
    client.handle([c.Broke(1, "network unreachable")], 0)
    client.handle([c.Broke(2, "network unreachable")], 5)
    effects = client.handle([], 60_000)
    (end,) = of_type(effects, c.End)
    assert "head:10001 was lost 60 s ago (network unreachable)" in end.text
    assert "lives 60 s without a client" in end.text
    assert client.next_deadline_ms() is None


def test_client_says_once_that_the_connection_is_lost_and_that_it_is_back():
    client = a_client()
    client.handle([c.Broke(1, "reset")], 0)
    assert client.handle([], 500) == []
    (said,) = of_type(client.handle([], 1_000), c.Say)
    assert "is lost (reset)" in said.text and "kept for 59 s more" in said.text
    assert of_type(client.handle([], 1_500), c.Say) == []
    (said,) = of_type(client.handle([c.Welcomed(client.attempt, welcome())], 2_000), c.Say)
    assert "is back; nothing was lost" in said.text


def test_client_says_nothing_of_a_short_break():
    client = a_client()
    client.handle([c.Broke(1, "reset")], 0)
    assert client.handle([c.Welcomed(2, welcome())], 900) == []


def test_client_tells_of_life_and_takes_silence_for_a_loss():
    client = a_client()
    (sign,) = client.handle([], SIGN_OF_LIFE_MS)
    assert sign == c.SendBatch(Batch(1, 0, []))
    client.handle([], 2 * SIGN_OF_LIFE_MS)
    effects = client.handle([], SILENCE_MS)
    assert effects == [c.HangUp(1), c.Dial(2, 0)]


def test_client_acknowledges_soon_what_it_has_received():
    client = a_client()
    client.handle([c.Heard(1, Batch(1, 0, [b"answer"]))], 50)
    assert client.next_deadline_ms() == 200
    assert client.handle([], 200) == [c.SendBatch(Batch(1, 1, []))]


def test_client_ignores_an_earlier_connection():
    client = a_client()
    client.handle([c.Broke(1, "reset")], 0)
    assert client.handle([c.Heard(1, Batch(1, 0, [b"late"])), c.Broke(1, "again")], 1) == []
    assert client.state == c.DIALLING


def test_client_that_is_turned_away_ends_with_the_head_s_words():
    client = a_client()
    client.handle([c.Broke(1, "reset")], 0)
    effects = client.handle([c.WasTurnedAway(2, TurnedAway(UNKNOWN_SESSION, "This head was restarted."))], 5)
    assert of_type(effects, c.End) == [c.End(UNKNOWN_SESSION, "This head was restarted.")]
    assert client.handle([c.Welcomed(2, welcome())], 6) == []


def test_client_that_is_greeted_by_nobody_dials_again():
    client = a_client()
    client.handle([c.Broke(1, "reset")], 0)
    client.handle([], 1_000)
    effects = client.handle([], c.GREETING_MS)
    assert of_type(effects, c.HangUp) == [c.HangUp(2)]
    assert client.state == c.PAUSING


def test_client_gives_up_a_head_that_refuses_its_token_again_and_again():
    client = a_client()
    client.handle([c.Broke(1, "reset")], 0)
    effects: list[object] = []
    now_ms = 0
    while not of_type(effects, c.End):
        effects = client.handle([c.Broke(client.attempt, "closed", is_refusal=True)], now_ms)
        while client.state == c.PAUSING:
            now_ms = client.next_deadline_ms()
            client.handle([], now_ms)
    assert client.attempt == 1 + c.REFUSALS_MAX
    assert "started anew" in of_type(effects, c.End)[0].text


# --- the server -------------------------------------------------------------------------------------------------------


def test_server_greets_the_first_process_as_new():
    server = a_server()
    effects = server.handle([s.Knocked(1, knock())], 0)
    (greet,) = of_type(effects, s.Greet)
    assert (greet.is_new, greet.first_number, greet.received) == (True, 1, 0)


def test_server_greets_the_same_process_with_what_it_has_received():
    server = a_server()
    server.handle([s.Knocked(1, knock())], 0)
    assert server.handle([s.HeardFrom(1, Batch(1, 0, [b"one", b"two"]))], 1) == [c.Deliver(b"one"), c.Deliver(b"two")]
    server.handle([s.Gone(1)], 2)
    effects = server.handle([s.Knocked(2, knock(session_id=SESSION))], 3)
    (greet,) = of_type(effects, s.Greet)
    assert (greet.is_new, greet.received) == (False, 2)
    assert of_type(effects, s.Reset) == []


def test_server_believes_the_new_connection_when_the_old_one_still_looks_open():
    server = a_server()
    server.handle([s.Knocked(1, knock())], 0)
    effects = server.handle([s.Knocked(2, knock(session_id=SESSION))], 3)
    assert of_type(effects, s.Close) == [s.Close(1)]
    assert server.connection == 2
    assert server.handle([s.Gone(1), s.HeardFrom(1, Batch(1, 0, [b"late"]))], 4) == []
    assert server.connection == 2


def test_another_process_takes_the_session_over_with_ids_of_its_own():
    server = a_server()
    server.handle([s.Knocked(1, knock())], 0)
    server.ledger.hold(b"an object of 20 bytes")
    effects = server.handle([s.Knocked(2, knock(b"process2"))], 5)
    (away,) = of_type(effects, s.TurnAway)
    assert (away.connection, away.code) == (1, TAKEN_OVER)
    assert "taken over by ann, process2" in away.text
    assert len(of_type(effects, s.Reset)) == 1
    (greet,) = of_type(effects, s.Greet)
    assert (greet.is_new, greet.first_number) == (False, s.NUMBERS_FOR_EACH + 1)
    assert server.ledger.kept == {b"an object of 20 bytes": 1}


def test_a_process_that_lost_its_place_does_not_get_it_back():
    server = a_server()
    server.handle([s.Knocked(1, knock())], 0)
    server.handle([s.Knocked(2, knock(b"process2"))], 5)
    (away,) = of_type(server.handle([s.Knocked(3, knock(session_id=SESSION))], 6), s.TurnAway)
    assert (away.connection, away.code) == (3, TAKEN_OVER)
    assert server.connection == 2


def test_a_stranger_that_claims_to_know_the_session_is_turned_away():
    server = a_server()
    (away,) = of_type(server.handle([s.Knocked(1, knock(b"stranger", session_id=SESSION))], 0), s.TurnAway)
    assert away.code == UNKNOWN_SESSION


def test_server_ends_at_its_idle_limit_and_not_before():
    server = a_server()
    server.handle([s.Knocked(1, knock())], 0)
    server.handle([s.Gone(1)], 1_000)
    assert server.next_deadline_ms() == 61_000
    assert server.handle([], 60_999) == []
    (end,) = of_type(server.handle([], 61_000), s.EndSession)
    assert end.reason == "no client was connected for 60 s, its idle limit"


def test_an_attached_server_has_no_idle_limit():
    server = a_server()
    server.handle([s.Knocked(1, knock())], 0)
    for now_ms in range(0, 200_000, SIGN_OF_LIFE_MS):
        server.handle([s.HeardFrom(1, Batch(1, 0, []))], now_ms)
    assert server.state == s.ATTACHED


def test_server_takes_silence_for_a_loss():
    server = a_server()
    server.handle([s.Knocked(1, knock())], 0)
    effects = server.handle([], SILENCE_MS)
    assert of_type(effects, s.Close) == [s.Close(1)]
    assert server.state == s.WAITING


def test_a_goodbye_ends_a_session_or_leaves_it():
    for ends, state in ((True, s.ENDED), (False, s.WAITING)):
        server = a_server()
        server.handle([s.Knocked(1, knock())], 0)
        server.handle([s.SaidGoodbye(1, ends)], 5)
        assert server.state == state


def test_whoever_knocks_after_the_end_hears_why():
    server = a_server()
    server.handle([s.Knocked(1, knock())], 0)
    server.handle([s.SaidGoodbye(1, True)], 5)
    (away,) = of_type(server.handle([s.Knocked(2, knock(b"process2"))], 6), s.TurnAway)
    assert away.code == SESSION_ENDED and "its driver has left" in away.text


# --- both -------------------------------------------------------------------------------------------------------------


class World:
    """A client and a server, and connections between them that carry, hold and lose messages."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.server = a_server()
        self.client = a_client()
        self.at_server: list[bytes] = []
        self.at_client: list[bytes] = []
        self.ended = ""
        self.server.handle([s.Knocked(1, knock())], 0)
        self.connection = 1
        self.to_server: deque[object] = deque()
        self.to_client: deque[object] = deque()
        self.is_up = True
        self.next_connection = 2

    def run_client(self, events: list[object]) -> None:
        for effect in self.client.handle(events, self.now_ms):
            if type(effect) is c.Deliver:
                self.at_client.append(effect.body)
            elif type(effect) is c.SendBatch:
                self.to_server.append(effect.batch)
            elif type(effect) is c.Dial:
                self.to_server.clear()
                self.to_client.clear()
                if self.is_up:
                    self.connection = self.next_connection
                    self.next_connection += 1
                    self.to_server.append(knock(session_id=SESSION, received=effect.received))
                else:
                    self.run_client([c.Broke(effect.attempt, "unreachable")])
            elif type(effect) is c.End:
                self.ended = effect.text

    def run_server(self, events: list[object]) -> None:
        for effect in self.server.handle(events, self.now_ms):
            if type(effect) is c.Deliver:
                self.at_server.append(effect.body)
            elif type(effect) is s.Greet and effect.connection == self.connection:
                self.to_client.append(welcome(received=effect.received))
            elif type(effect) is s.TurnAway and effect.connection == self.connection:
                self.to_client.append(TurnedAway(effect.code, effect.text))
            elif type(effect) is c.SendBatch and self.server.connection == self.connection:
                self.to_client.append(effect.batch)

    def carry(self, count: int) -> None:
        while (batch := self.client.take(self.now_ms)) is not None:
            self.to_server.append(batch)
        while (batch := self.server.take(self.now_ms)) is not None:
            if self.server.connection == self.connection:
                self.to_client.append(batch)
        for _ in range(count):
            if self.to_server:
                message = self.to_server.popleft()
                kind = s.Knocked if type(message) is Knock else s.HeardFrom
                self.run_server([kind(self.connection, message)])
            if self.to_client:
                message = self.to_client.popleft()
                kinds = {Welcome: c.Welcomed, TurnedAway: c.WasTurnedAway, Batch: c.Heard}
                self.run_client([kinds[type(message)](self.client.attempt, message)])

    def cut(self, is_told: bool) -> None:
        """The connection is gone; is_told: the server hears of it now, or never."""
        self.to_server.clear()
        self.to_client.clear()
        if is_told:
            self.run_server([s.Gone(self.connection)])
        self.run_client([c.Broke(self.client.attempt, "cut")])

    def wait(self, span_ms: int) -> None:
        end_ms = self.now_ms + span_ms
        while self.now_ms < end_ms:
            self.now_ms = min(end_ms, self.now_ms + 250)
            self.run_client([])
            self.run_server([])


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("order"), st.integers(1, 4)),
        st.tuples(st.just("answer"), st.integers(1, 4)),
        st.tuples(st.just("carry"), st.integers(1, 6)),
        st.tuples(st.just("cut"), st.integers(0, 1)),
        st.tuples(st.just("down"), st.just(0)),
        st.tuples(st.just("up"), st.just(0)),
        st.tuples(st.just("wait"), st.sampled_from([100, 1_000, 6_000])),
    ),
    max_size=60,
)


@given(STEPS)
def test_orders_and_answers_arrive_once_through_any_breaks(steps):
    # Given a client and its session
    world = World()
    orders: list[bytes] = []
    answers: list[bytes] = []
    down_ms = 0
    # When connections break at any moment, whoever hears of it
    for what, amount in steps:
        if what == "order":
            for _ in range(amount):
                orders.append(f"order {len(orders)}".encode())
                world.client.stream.send(orders[-1])
        elif what == "answer":
            for _ in range(amount):
                answers.append(f"answer {len(answers)}".encode())
                world.server.stream.send(answers[-1])
        elif what == "carry":
            world.carry(amount)
        elif what == "cut":
            world.cut(is_told=bool(amount))
        elif what == "down":
            world.is_up = False
            world.cut(is_told=False)
        elif what == "up":
            world.is_up = True
            down_ms = 0
        else:
            if not world.is_up:
                down_ms += amount
                if down_ms > 30_000:
                    continue  # Longer than half a minute: that is another test.
            world.wait(amount)
            world.carry(2)
        world.client.check_invariants()
        world.server.check_invariants()
    world.is_up = True
    for _ in range(40):
        world.wait(1_000)
        world.carry(50)
    # Then everything has arrived, once and in order
    assert not world.ended
    assert world.at_server == orders
    assert world.at_client == answers
