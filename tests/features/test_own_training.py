"""Bases with their own training, and Keras's ways to train."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import keras_peft
from core import models
from core.trying import MODE
from keras_peft.core.adapted._callbacks import TrainingCheck
from keras_peft.errors import AdapterError, OptionError

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(16, 8)).astype("float32")
Y = RANDOM.normal(size=(16, 3)).astype("float32")
LORA = keras_peft.LoRA(rank=2, dropout=0.0)
TENSORFLOW = keras.config.backend() == "tensorflow"
on_tensorflow = pytest.mark.skipif(not TENSORFLOW, reason="its train_step is TensorFlow's")


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)


class Network(keras.Model):
    """Two dense layers; the classes below train it in their own ways."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = layers.Dense(8, activation="relu", name="hidden")
        self.scores = layers.Dense(3, name="scores")

    def call(self, inputs):
        return self.scores(self.hidden(inputs))


class OwnLoss(Network):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return 1000.0 + keras.ops.mean(keras.ops.abs(y - y_pred))


class OwnMetrics(Network):
    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return {"answer": 42.0}


class OwnStep(Network):
    """A `train_step` with a metric that the model keeps itself."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.rows = keras.metrics.Sum(name="rows")

    def train_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(self(x, training=True) - y))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        self.rows.update_state(keras.ops.ones((keras.ops.shape(x)[0],)))
        return {"own": loss, "rows": self.rows.result()}

    def test_step(self, data):
        return {"tested": keras.ops.mean(self(data[0], training=False))}


class OwnCompilation(OwnStep):
    def compile(self, optimizer, factor):
        super().compile(optimizer)
        self.factor = factor


class StepOfParts(Network):
    """A `train_step` that trains the variables of a part, as in adversarial training."""

    def train_step(self, data):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(self(data[0], training=True) - data[1]))
        variables = self.hidden.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return {"loss": loss}


class Conditioned(Network):
    """A `call` with an argument of its own."""

    def call(self, inputs, scale=1.0, training=None):
        return scale * super().call(inputs)


def built(kind, **options):
    model = kind(**options)
    model(X[:1])
    return model


def adapted(kind, **options):
    return keras_peft.adapt(built(kind), LORA, targets="hidden", **options)


def train(model, **options):
    model.compile("sgd", "mse", jit_compile=MODE)
    return model.fit(X, Y, verbose=0, **options).history


@pytest.mark.feature("Training", "`compute_loss` of the model's class", "works")
def test_a_base_computes_its_own_loss():
    model = adapted(OwnLoss)
    assert isinstance(model, OwnLoss)
    assert train(model)["loss"][0] > 1000
    assert model.evaluate(X, Y, verbose=0) > 1000


@pytest.mark.feature("Training", "`compute_metrics` of the model's class", "works")
def test_a_base_computes_its_own_metrics():
    assert train(adapted(OwnMetrics))["answer"] == [42.0]


@on_tensorflow
@pytest.mark.feature("Training", "`train_step` and `test_step` of the model's class", "works")
def test_a_base_trains_in_its_own_steps():
    model = adapted(OwnStep)
    before = model.adapter_tensors()
    history = train(model, epochs=2)
    # Metrics of the base start again in each epoch.
    assert history["rows"] == [16.0, 16.0]
    assert history["own"][1] < history["own"][0]
    assert any(not np.array_equal(value, before[key]) for key, value in model.adapter_tensors().items())
    assert "tested" in model.evaluate(X, Y, verbose=0, return_dict=True)


@on_tensorflow
@pytest.mark.feature(
    "Training",
    "`train_step` that trains the variables of a part",
    "refused",
    "Training stops after at most 10 steps, before an epoch ends. Adapt the part instead.",
)
def test_a_step_that_trains_no_adapter_is_refused():
    model = adapted(StepOfParts)
    with pytest.raises(AdapterError, match=r"train_step\(\) of .* did not change any weight of the adapters"):
        train(model)


@on_tensorflow
@pytest.mark.feature("Training", "`compile` of the model's class, with its own arguments", "works")
def test_a_base_has_its_own_compilation():
    model = adapted(OwnCompilation)
    model.compile("sgd", factor=3)
    assert model.factor == 3
    assert model.fit(X, Y, verbose=0).history["own"]


@pytest.mark.feature("Training", "Further arguments of `call`", "works")
def test_a_call_keeps_its_arguments():
    model = adapted(Conditioned)
    once = keras.ops.convert_to_numpy(model(X))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(X, scale=2.0)), 2 * once, rtol=1e-6)
    with pytest.raises(TypeError, match="unexpected"):
        model(X, size=2.0)
    assert train(model)["loss"]


@pytest.mark.feature(
    "Training",
    "`head=` on a model that computes its own loss",
    "refused",
    "The loss would not see the head.",
)
@pytest.mark.parametrize("kind", [OwnLoss, OwnStep, OwnMetrics])
def test_a_head_on_a_base_with_its_own_training_is_refused(kind):
    with pytest.raises(OptionError, match=r"has its own (train_step|compute_\w+).*Adapt it without `head`"):
        adapted(kind, head=layers.Dense(2))


@pytest.mark.feature("Training", "`trainable = False`, then `True`", "works", "Trains the adapters only.")
def test_freezing_and_thawing_trains_the_adapters_only():
    base = models.distilbert_classifier()
    before = models.values(base)
    model = keras_peft.adapt(base, LORA, layers="last:1")
    trained = [variable.path for variable in model.trainable_variables]
    model.trainable = False
    assert model.trainable_variables == []
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.trainable = True
    assert [variable.path for variable in model.trainable_variables] == trained
    inputs = models.inputs_of(models.distilbert(), rows=6)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=TENSORFLOW)
    model.fit(inputs, np.arange(6) % 3, verbose=0, shuffle=False)
    model.detach()
    assert models.same(models.values(base), before)


@pytest.mark.feature("Training", "A frozen adapted model inside another model", "works")
def test_an_outer_model_freezes_and_thaws_it():
    inner = keras_peft.adapt(models.subclassed(), LORA, targets="first")
    inputs = keras.Input((8,))
    outer = keras.Model(inputs, layers.Dense(1)(inner(inputs)))
    assert len(outer.trainable_variables) == 4
    outer.trainable = False
    assert outer.trainable_variables == []
    outer.trainable = True
    assert len(outer.trainable_variables) == 4


@pytest.mark.feature(
    "Training",
    "`base.trainable = True` after `adapt`",
    "refused",
    "Training would change the base for good.",
)
def test_a_base_that_was_thawed_is_refused():
    base = models.subclassed()
    model = keras_peft.adapt(base, LORA, targets="first")
    model.compile("sgd", "mse")
    base.trainable = False
    base.trainable = True
    for attempt in (lambda: model.fit(X, Y, verbose=0), lambda: model.compile("sgd", "mse")):
        with pytest.raises(AdapterError, match="4 variables of the base model were made trainable"):
            attempt()
    base.trainable = False
    assert train(model)["loss"]


@pytest.mark.feature("Training", "`base.trainable = False` after `adapt`", "works", "The head still trains.")
def test_a_base_that_is_frozen_again_keeps_its_head():
    base = models.distilbert_classifier()
    model = keras_peft.adapt(base, LORA, layers="last:1")
    count = len(model.trainable_variables)
    base.trainable = False
    model.compile("sgd")
    assert len(model.trainable_variables) == count


@pytest.mark.feature("Training", "`train_on_batch`, `test_on_batch`, `predict_on_batch`", "works")
def test_single_batches():
    model = adapted(Network)
    model.compile("sgd", "mse", run_eagerly=TENSORFLOW)
    first = model.train_on_batch(X, Y)
    for _ in range(5):
        model.train_on_batch(X, Y)
    assert model.test_on_batch(X, Y) < first
    np.testing.assert_allclose(
        model.predict_on_batch(X), keras.ops.convert_to_numpy(model(X)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.feature("Training", "Sample weights and class weights", "works")
def test_rows_have_weights():
    model = adapted(Network)
    weights = np.zeros(16, "float32")
    weights[:4] = 1
    model.compile("sgd", weighted_metrics=["mse"], loss="mse", run_eagerly=TENSORFLOW)
    some = model.evaluate(X, Y, sample_weight=weights, verbose=0, return_dict=True)["mse"]
    few = model.evaluate(X[:4], Y[:4], verbose=0, return_dict=True)["mse"]
    assert some == pytest.approx(few, rel=1e-5)
    before = model.adapter_tensors()
    model.fit(X, Y, sample_weight=np.zeros(16), verbose=0)
    for key, value in model.adapter_tensors().items():
        np.testing.assert_array_equal(value, before[key])


@pytest.mark.feature("Training", "Losses of layers (`add_loss`, `activity_regularizer`)", "works")
def test_losses_of_layers_count():
    inputs = keras.Input((8,))
    hidden = layers.Dense(8, activity_regularizer=keras.regularizers.L2(1.0), name="hidden")(inputs)
    base = keras.Model(inputs, layers.Dense(3)(hidden))
    model = keras_peft.adapt(base, LORA, targets="hidden")
    model.compile("sgd", "mse", run_eagerly=TENSORFLOW)
    predicted = keras.ops.convert_to_numpy(model(X))
    assert model.evaluate(X, Y, verbose=0, batch_size=16) > ((predicted - Y) ** 2).mean() + 0.1


@pytest.mark.feature("Training", "Several inputs and outputs, shared layers", "works")
def test_several_inputs_and_outputs():
    one, other = keras.Input((8,), name="one"), keras.Input((8,), name="other")
    shared = layers.Dense(4, name="shared")
    base = keras.Model(
        {"one": one, "other": other},
        {"sum": layers.Dense(3, name="sum")(shared(one) + shared(other)), "one": shared(one)},
    )
    model = keras_peft.adapt(base, LORA, targets="shared")
    model.compile("sgd", {"sum": "mse", "one": "mse"}, run_eagerly=TENSORFLOW)
    history = model.fit({"one": X, "other": X}, {"sum": Y, "one": np.ones((16, 4))}, epochs=2, verbose=0)
    assert history.history["loss"][1] < history.history["loss"][0]


@pytest.mark.feature("Training", "`run_eagerly`, `steps_per_execution`, `jit_compile`", "works")
@pytest.mark.parametrize("options", [{"run_eagerly": True}, {"steps_per_execution": 2, "jit_compile": MODE}])
def test_ways_to_compile(options):
    model = adapted(Network)
    model.compile("sgd", "mse", **options)
    history = model.fit(X, Y, batch_size=4, epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]


@pytest.mark.feature("Training", "`EarlyStopping`, `ReduceLROnPlateau`, schedules", "works")
def test_callbacks_of_keras():
    model = adapted(Network)
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    model.compile(keras.optimizers.Adam(schedule), "mse", jit_compile=MODE)
    stop = keras.callbacks.EarlyStopping("loss", patience=0, min_delta=1e9, restore_best_weights=True)
    assert len(model.fit(X, Y, epochs=5, verbose=0, callbacks=stop).history["loss"]) < 5


@pytest.mark.feature("Training", "Your own loop with `tf.GradientTape`", "works")
@on_tensorflow
def test_an_own_loop():
    import tensorflow as tf

    model = adapted(Network)
    optimizer = keras.optimizers.SGD(0.1)
    found = []
    for _ in range(3):
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(model(X, training=True) - Y))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        found.append(float(loss))
    assert found[2] < found[0]


class Annealed(keras.Model):
    """A model whose loss has a factor that a callback changes."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.factor = layers.Dense(3, name="hidden"), 0.0

    def call(self, inputs):
        outputs = self.hidden(inputs)
        self.add_loss(self.factor * keras.ops.mean(outputs**2))
        return outputs


@pytest.mark.feature(
    "Training", "Attributes that callbacks set on `self.model`", "works", "They reach the base."
)
def test_attributes_are_set_where_the_base_reads_them():
    base = built(Annealed)
    model = keras_peft.adapt(base, LORA, targets="hidden")
    model.factor = 100.0
    assert base.factor == 100.0
    model.compile("sgd", "mse", run_eagerly=TENSORFLOW)
    outputs = keras.ops.convert_to_numpy(model(X))
    expected = 100 * (outputs**2).mean() + ((outputs - Y) ** 2).mean()
    assert model.evaluate(X, Y, batch_size=16, verbose=0) == pytest.approx(expected, rel=1e-4)


class Halving(Network):
    """A model that changes its inputs in `__call__`."""

    def __call__(self, inputs, *args, **kwargs):
        return super().__call__(keras.ops.convert_to_tensor(inputs) / 2, *args, **kwargs)


def test_an_own_call_runs_once():
    base = built(Halving)
    before = keras.ops.convert_to_numpy(base(X))
    model = keras_peft.adapt(base, LORA, targets="hidden")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(X)), before, rtol=1e-6)


class WithHead(Network):
    """A model with an attribute that an adapted model has too, and a method that uses it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.head = layers.Dense(1)
        self.head.build((None, 3))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return keras.ops.mean(self.head(y_pred))


@pytest.mark.feature(
    "Training",
    "Own methods that use attributes named `base`, `head`, `split`, …",
    "refused",
    "An adapted model has others of these names.",
)
def test_attributes_that_would_be_hidden_are_refused():
    with pytest.raises(OptionError, match="has head, and an adapted model has something else of that name"):
        adapted(WithHead)


class OwnSequential(keras.Sequential):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return 7.0 * keras.ops.mean(y_pred)


@pytest.mark.feature(
    "Training", "A subclass of `Sequential` with its own training", "refused", "Use a subclass of `Model`."
)
def test_a_sequential_model_with_its_own_training_is_refused():
    base = OwnSequential([keras.Input((8,)), layers.Dense(3, name="hidden")])
    with pytest.raises(OptionError, match="Sequential model with its own compute_loss"):
        keras_peft.adapt(base, LORA, targets="hidden")


@on_tensorflow
@pytest.mark.feature("Training", "Gradient accumulation and warm-up in an own `train_step`", "works")
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=16),
        lambda: keras.optimizers.SGD(
            keras.optimizers.schedules.CosineDecay(0.0, 9, warmup_target=0.1, warmup_steps=30)
        ),
    ],
    ids=["accumulation", "warmup"],
)
def test_steps_that_change_nothing_yet_are_not_refused(optimizer):
    model = adapted(OwnStep)
    model.compile(optimizer(), jit_compile=False)
    model.fit(X, Y, epochs=2, verbose=0)


class Unfreezing(OwnStep):
    """A `train_step` that thaws a part of the model, as in adversarial training."""

    def train_step(self, data):
        self.scores.trainable = False
        self.scores.trainable = True
        return super().train_step(data)


@on_tensorflow
@pytest.mark.feature(
    "Training", "`train_step` that trains the base", "refused", "After the first step; it is restored."
)
def test_a_step_that_trains_the_base_is_refused_and_undone():
    base = built(Unfreezing)
    before = models.values(base)
    model = keras_peft.adapt(base, LORA, targets="hidden")
    model.compile(keras.optimizers.SGD(0.1))
    model.optimizer.build([*model.trainable_variables, *base.scores.variables])
    with pytest.raises(AdapterError, match="Training changes .* of the base model"):
        model.fit(X, Y, verbose=0)
    assert models.same(models.values(base)[:4], before[:4])


class Averaging(layers.Layer):
    """A layer that keeps an average of its inputs."""

    def build(self, shape):
        self.average = self.add_weight(
            shape=(shape[-1],), trainable=False, initializer="zeros", name="average"
        )

    def call(self, inputs, training=False):
        if training:
            self.average.assign(0.9 * self.average + 0.1 * keras.ops.mean(inputs, axis=0))
        return inputs - self.average


@pytest.mark.feature(
    "Training",
    "Your own layers that update statistics",
    "refused",
    "After the first step; they are restored.",
)
def test_statistics_of_own_layers_are_refused_and_restored():
    inputs = keras.Input((8,))
    base = keras.Model(inputs, layers.Dense(3, name="scores")(Averaging()(inputs)))
    model = keras_peft.adapt(base, LORA, targets="scores")
    model.compile("sgd", "mse", jit_compile=MODE)
    with pytest.raises(AdapterError, match="Training changes .*average"):
        model.fit(X, Y, verbose=0)
    assert not keras.ops.convert_to_numpy(base.layers[1].average).any()


@on_tensorflow
def test_an_error_in_an_own_step_says_what_may_be_frozen():
    class Empty(Network):
        def train_step(self, data):
            raise ValueError("nothing to unpack")

    model = adapted(Empty)
    model.compile("sgd", "mse", run_eagerly=True)
    with pytest.raises(ValueError, match="nothing to unpack") as raised:
        model.fit(X, Y, verbose=0)
    assert "self.trainable_variables" in raised.value.__notes__[0]


class Reading(Network):
    """A model that reads the kernel of a layer without calling it."""

    def call(self, inputs):
        return self.scores(keras.ops.matmul(inputs, self.hidden.kernel))


@pytest.mark.feature(
    "Layers",
    "Layers that the model reads without calling them",
    "refused",
    "Adapters have no effect there.",
)
def test_a_layer_that_is_not_called_is_refused_in_training():
    base = Reading()
    base.hidden.build((None, 8))
    base(X[:1])
    model = keras_peft.adapt(base, LORA, targets="hidden")
    model.compile("sgd", "mse", run_eagerly=TENSORFLOW)
    with pytest.raises(AdapterError, match="does not call hidden"):
        model.fit(X, Y, verbose=0)


def test_a_layer_that_is_not_built_is_refused():
    base = Network()
    base.unused = layers.Dense(2, name="unused")
    with pytest.warns(UserWarning, match="unbuilt state"):
        base(X[:1])
    with pytest.raises(keras_peft.KerasPeftError, match="unused is not built"):
        keras_peft.adapt(base, LORA, targets="unused")


@pytest.mark.feature(
    "Training", "A model that contains the adapted model", "works", "It follows `activate` and `merge`."
)
def test_a_container_follows_its_adapted_model():
    inner = keras_peft.adapt(built(Network), LORA, targets="hidden")
    outer = keras.Sequential([keras.Input((8,)), inner])
    inner.add_adapter("other", LORA, targets="hidden")
    for name in ("default", "other"):
        inner.activate(name)
        for variable in inner.adapter_variables().values():
            variable.assign(variable + 0.5)
        np.testing.assert_allclose(
            outer.predict(X, verbose=0), keras.ops.convert_to_numpy(inner(X)), rtol=1e-5, atol=1e-5
        )
    expected = outer.predict(X, verbose=0)
    inner.merge()
    np.testing.assert_allclose(outer.predict(X, verbose=0), expected, rtol=1e-4, atol=1e-4)
    inner.detach()
    with pytest.raises(AdapterError, match="was detached"):
        outer.predict(X, verbose=0)


class Probabilities(Network):
    def predict_step(self, data):
        return keras.ops.softmax(super().predict_step(data))


def test_rows_of_a_base_with_its_own_predictions_are_refused():
    model = adapted(Probabilities)
    with pytest.raises(AdapterError, match=r"its own predict_step\(\)"):
        model.predict(X, adapters=["default"] * 16, verbose=0)


def test_inputs_keep_the_dtype_of_the_base():
    class Counting(keras.Model):
        def __init__(self):
            super().__init__(autocast=False)
            self.hidden = layers.Dense(3, name="hidden")

        def call(self, inputs):
            return self.hidden(keras.ops.one_hot(keras.ops.cast(inputs % 7, "int32"), 7))

    times = np.array([1.7e9 + number for number in range(8)])
    base = Counting()
    before = keras.ops.convert_to_numpy(base(times))
    model = keras_peft.adapt(base, LORA, targets="hidden")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(times)), before)


def test_a_base_is_evaluated_while_its_adapters_are_disabled():
    model = adapted(Network)
    model.compile("sgd", "mse", run_eagerly=TENSORFLOW)
    with model.disabled():
        assert model.evaluate(X, Y, verbose=0) > 0


def test_nothing_is_checked_in_each_batch_of_plain_models():
    """A callback that runs per batch makes Keras wait for each of them."""
    model = adapted(Network)
    for kind, whole, expected in ((Network, False, False), (OwnStep, True, True)):
        check = TrainingCheck(built(kind), model.adapter_variables(), {}, whole=whole)
        assert check.has_work is expected
