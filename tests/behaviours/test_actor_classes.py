"""Actor classes and handles: what a class may be, what its handle shows, what is refused where it is written."""

import asyncio
import pickle

import cloudpickle
import pytest

from raybook.actor import ActorClass, ActorHandle, ActorProxy

PATIENCE_S = 20


def make_rich(ray):
    class Base:
        attribute = 7

        def base(self):
            return "base"

        def overridden(self):
            return "base"

        @staticmethod
        def static(x):
            return ("static", x)

        @classmethod
        def of_class(cls, x=3):
            return (cls.__name__, x)

    class Mixin:
        def mixed(self, *args, k=1, **rest):
            return (args, k, rest)

    @ray.remote
    class Rich(Base, Mixin):
        """Doc."""

        def __init__(self, x, y=2):
            self.x, self.y = x, y

        def overridden(self):
            return "over " + super().overridden()

        @property
        def prop(self):
            return self.x

        def seen(self):
            return (self.attribute, self.x, self.y, self.prop)

        def __call__(self, z):
            return ("call", z)

        def __len__(self):
            return 5

        def _private(self):
            return "private"

        def __mangled(self):
            return "mangled"

        def keyword(self, *, a):
            return a

        def positional(self, a, /, b):
            return (a, b)

        doubled = lambda self, q: q * 2  # noqa: E731

    return Rich


@pytest.fixture(scope="module")
def rich(ray):
    return make_rich(ray).remote(1)


@pytest.mark.parametrize(
    ("method", "args", "kwargs", "result"),
    [
        ("base", (), {}, "base"),
        ("overridden", (), {}, "over base"),
        ("static", (4,), {}, ("static", 4)),
        ("of_class", (), {}, ("Rich", 3)),
        ("mixed", (1, 2), {"k": 3, "z": 4}, ((1, 2), 3, {"z": 4})),
        ("seen", (), {}, (7, 1, 2, 1)),
        ("__call__", (4,), {}, ("call", 4)),
        ("__len__", (), {}, 5),
        ("_private", (), {}, "private"),
        ("_Rich__mangled", (), {}, "mangled"),
        ("keyword", (), {"a": 2}, 2),
        ("positional", (1,), {"b": 2}, (1, 2)),
        ("doubled", (4,), {}, 8),
    ],
)
def test_every_kind_of_method_can_be_called(ray, rich, method, args, kwargs, result):
    assert ray.get(getattr(rich, method).remote(*args, **kwargs), timeout=PATIENCE_S) == result


@pytest.mark.parametrize("name", ["prop", "attribute", "nothing"])
def test_what_is_no_method_is_no_attribute_of_the_handle(rich, name):
    with pytest.raises(AttributeError):
        getattr(rich, name)


@pytest.mark.parametrize(
    ("method", "args", "kwargs"),
    [("keyword", (2,), {}), ("positional", (), {"a": 1, "b": 2}), ("base", (1,), {}), ("base", (), {"q": 1})],
)
def test_arguments_that_do_not_fit_are_refused_at_the_call(rich, method, args, kwargs):
    with pytest.raises(TypeError):
        getattr(rich, method).remote(*args, **kwargs)


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"z": 3})])
def test_arguments_that_do_not_fit_init_are_refused_at_the_creation(ray, args, kwargs):
    with pytest.raises(TypeError):
        make_rich(ray).remote(*args, **kwargs)


def test_methods_and_classes_cannot_be_called_directly(ray, rich):
    with pytest.raises(TypeError, match="Actor methods cannot be called directly"):
        rich.base()
    with pytest.raises(TypeError, match="Actors cannot be instantiated directly"):
        make_rich(ray)(1)


def test_class_attributes_are_those_of_the_plain_class(ray):
    cls = make_rich(ray)
    assert cls.attribute == 7 and cls.static(1) == ("static", 1)
    assert cls.__ray_actor_class__.__name__ == "Rich" and cls.__ray_metadata__.modified_class.__name__ == "Rich"
    assert isinstance(cls, ActorClass)
    with pytest.raises(AttributeError):
        cls.nothing  # noqa: B018 - raises.


def test_actor_class_cannot_be_inherited_from_and_its_plain_class_can(ray):
    cls = make_rich(ray)
    with pytest.raises(TypeError, match="Inherit"):

        class Child(cls):
            pass

    class PlainChild(cls.__ray_actor_class__):
        def base(self):
            return "child"

    assert ray.get(ray.remote(PlainChild).remote(1).base.remote(), timeout=PATIENCE_S) == "child"


def test_handle_shows_the_qualified_class_and_the_id(rich):
    assert repr(rich) == f"Actor(make_rich.<locals>.Rich, {rich._actor_id.hex()})"
    assert isinstance(rich, ActorHandle) and rich._ray_actor_id == rich._actor_id
    assert {"base", "static", "mixed"} <= set(dir(rich))


def test_handles_of_one_actor_are_equal_wherever_they_come_from(ray, rich):
    other = make_rich(ray).remote(2)
    same = pickle.loads(pickle.dumps(rich))
    assert same == rich and hash(same) == hash(rich) and rich != other and rich != 1
    assert ray.get(cloudpickle.loads(cloudpickle.dumps(rich)).base.remote(), timeout=PATIENCE_S) == "base"


def test_actor_can_return_a_handle_of_itself(ray):
    @ray.remote
    class Me:
        def me(self):
            return ray.get_runtime_context().current_actor

    me = Me.remote()
    assert ray.get(me.me.remote(), timeout=PATIENCE_S) == me


def test_actor_class_can_be_pickled_and_used_elsewhere(ray):
    cls = make_rich(ray)

    @ray.remote
    def make():
        return ray.get(cls.remote(5).seen.remote())

    assert ray.get(make.remote(), timeout=PATIENCE_S) == (7, 5, 2, 5)
    assert ray.get(cloudpickle.loads(cloudpickle.dumps(cls)).remote(6).seen.remote()) == (7, 6, 2, 6)


def test_generator_methods_stream(ray):
    @ray.remote
    class Maker:
        def some(self, n):
            yield from range(n)

        @ray.method(num_returns=2)
        def pair(self):
            return 1, 2

    maker = Maker.remote()
    assert [ray.get(ref) for ref in maker.some.remote(3)] == [0, 1, 2]
    assert ray.get(maker.pair.remote()) == [1, 2]
    assert ray.get(maker.pair.options(num_returns=1).remote()) == (1, 2)
    assert maker.pair.options(num_returns=0).remote() is None


@pytest.mark.parametrize("way", ["streaming", "dynamic"])
def test_plain_methods_and_functions_cannot_stream(ray, way):
    @ray.remote
    class Plain:
        def one(self):
            return 1

    with pytest.raises(ValueError, match="generator functions"):
        Plain.remote().one.options(num_returns=way)
    with pytest.raises(ValueError, match="generator functions"):
        ray.method(num_returns=way)(lambda self: 1)
    with pytest.raises(ValueError, match="generator functions"):
        ray.remote(num_returns=way)(lambda: 1)


def test_system_methods_work_on_every_actor(ray):
    @ray.remote
    class Plain:
        def __init__(self):
            self.x = 5

    plain = Plain.remote()
    assert ray.get(plain.__ray_ready__.remote(), timeout=PATIENCE_S)
    assert ray.get(plain.__ray_call__.remote(lambda self, y, *, k=0: self.x + y + k, 4, k=1)) == 10
    with pytest.raises(ZeroDivisionError):
        ray.get(plain.__ray_call__.remote(lambda self: 1 / 0))


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"num_cpus": -1}, ValueError),
        ({"num_cpus": "1"}, TypeError),
        ({"memory": -1}, ValueError),
        ({"resources": {"CPU": 1}}, ValueError),
        ({"resources": "x"}, TypeError),
        ({"name": 1}, TypeError),
        ({"namespace": 1}, TypeError),
        ({"lifetime": "forever"}, ValueError),
        ({"lifetime": 1}, TypeError),
        ({"max_restarts": -2}, ValueError),
        ({"max_restarts": "1"}, TypeError),
        ({"max_task_retries": -2}, ValueError),
        ({"max_concurrency": -1}, ValueError),
        ({"max_pending_calls": -2}, ValueError),
        ({"get_if_exists": 1}, TypeError),
        ({"unknown": 1}, ValueError),
        ({"max_calls": 1}, ValueError),
        ({"num_returns": 1}, ValueError),
        ({"max_retries": 1}, ValueError),
        ({"scheduling_strategy": 1}, TypeError),
        ({"accelerator_type": 1}, TypeError),
        ({"label_selector": 1}, TypeError),
        ({"label_selector": {"a": "in("}}, ValueError),
        ({"fallback_strategy": "x"}, TypeError),
        ({"fallback_strategy": [{"x": 1}]}, ValueError),
        ({"placement_group": 1}, TypeError),
        ({"allow_out_of_order_execution": 1}, TypeError),
        ({"enable_task_events": 1}, TypeError),
        ({"runtime_env": 1}, TypeError),
    ],
)
def test_wrong_options_are_refused_by_decorator_and_options(ray, options, kind):
    class Plain:
        pass

    with pytest.raises(kind):
        ray.remote(**options)(Plain)
    with pytest.raises(kind):
        ray.remote(Plain).options(**options)


def test_concurrency_groups_belong_to_the_decorator(ray):
    class Plain:
        pass

    with pytest.raises(ValueError, match="not supported in '.options\\(\\)'"):
        ray.remote(Plain).options(concurrency_groups={"io": 1})


def test_options_keep_what_they_do_not_change(ray):
    @ray.remote(num_cpus=0, resources={"custom": 1})
    class Plain:
        def held(self):
            return ray.get_runtime_context().get_assigned_resources()

    one = Plain.options(resources={"custom": 0.5}).remote()
    assert ray.get(one.held.remote(), timeout=PATIENCE_S) == {"custom": 0.5}
    ray.kill(one)


def test_init_of_an_async_actor_runs_on_its_loop(ray):
    @ray.remote
    class Looped:
        def __init__(self):
            self.loop = asyncio.get_running_loop()
            self.beats = 0
            self.task = self.loop.create_task(self.beat())

        async def beat(self):
            while True:
                self.beats += 1
                await asyncio.sleep(0.001)

        async def same(self):
            while not self.beats:
                await asyncio.sleep(0.001)
            return self.loop is asyncio.get_running_loop()

    assert ray.get(Looped.remote().same.remote(), timeout=PATIENCE_S)


def test_init_may_be_a_coroutine(ray):
    @ray.remote
    class Slowly:
        async def __init__(self, x):
            await asyncio.sleep(0)
            self.x = x

        def get(self):
            return self.x

    assert ray.get(Slowly.remote(3).get.remote(), timeout=PATIENCE_S) == 3


def test_calls_and_creations_may_have_their_arguments_in_containers(ray):
    @ray.remote
    class Adder:
        def __init__(self, base, step=1):
            self.base, self.step = base, step

        def add(self, x=0, y=0):
            return self.base + self.step + x + y

    adder = Adder._remote(args=[10], kwargs={"step": 5}, num_cpus=0)
    assert ray.get(adder.add._remote(), timeout=PATIENCE_S) == 15
    assert ray.get(adder.add._remote([1], {"y": 2}, name="sum"), timeout=PATIENCE_S) == 18


def test_annotations_may_name_the_class_of_an_actor(ray):
    class Plain:
        pass

    assert ActorHandle[Plain] is ActorHandle and ActorProxy[Plain] is ActorHandle
    assert ActorClass[Plain] is ActorClass
