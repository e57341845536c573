"""Small models over sequences, one per way units are tied together there; each is built fresh from a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers as L
from keras import ops

WORDS = 6
VOCABULARY = 50


def tokens() -> Any:
    return keras.Input((WORDS,), dtype="int32", name="tokens")


def feed_forward(x: Any, width: int, inner: int, name: str) -> Any:
    return L.Dense(width, name=f"{name}_down")(L.Dense(inner, activation="gelu", name=f"{name}_up")(x))


def pooled(inputs: Any, x: Any) -> keras.Model:
    return keras.Model(inputs, L.Dense(5, activation="softmax", name="out")(L.GlobalAveragePooling1D()(x)))


def pre_norm_text() -> keras.Model:
    """The text encoder: learned positions in an EinsumDense, two blocks, a last norm."""
    i = tokens()
    x = L.Embedding(VOCABULARY, 32, name="embedding")(i)
    x = L.EinsumDense("btc,cd->btd", (WORDS, 32), bias_axes="td", name="positions")(x)
    for k in range(2):
        normed = L.LayerNormalization(name=f"norm{k}")(x)
        x = L.Add()([x, L.MultiHeadAttention(4, 8, dropout=0.1, name=f"attention{k}")(normed, normed)])
        x = L.Add()([x, feed_forward(L.LayerNormalization(name=f"inner_norm{k}")(x), 32, 64, f"mlp{k}")])
    return pooled(i, L.LayerNormalization(center=False, scale=False, name="last_norm")(x))


def post_norm_rms_masked() -> keras.Model:
    """RMS norms behind the sums, a causal mask, a padding mask, positions looked up and added."""
    i = tokens()
    x = L.Embedding(VOCABULARY, 32, mask_zero=True, name="embedding")(i)
    places = ops.cumsum(ops.ones_like(i), axis=1) - 1
    x = L.Add()([x, L.Embedding(WORDS, 32, name="positions")(places)])
    for k in range(2):
        a = L.MultiHeadAttention(2, 16, use_bias=False, name=f"attention{k}")(x, x, use_causal_mask=True)
        x = L.RMSNormalization(name=f"rms{k}")(L.Add()([x, a]))
        x = L.RMSNormalization(name=f"inner_rms{k}")(L.Add()([x, feed_forward(x, 32, 48, f"mlp{k}")]))
    return pooled(i, x)


def cross_attention() -> keras.Model:
    """Queries of one width look at keys and values of others; all head sizes differ; the gate is used."""
    i, j = tokens(), keras.Input((9, 7), name="memory")
    query = L.Embedding(VOCABULARY, 24, name="embedding")(i)
    key = L.Dense(40, activation="tanh", name="keys")(j)
    value = L.Dense(32, activation="tanh", name="values")(j)
    x = L.MultiHeadAttention(
        6, 5, value_dim=7, output_shape=48, use_gate=True, name="attention"
    )(query, value, key=key)  # fmt: skip
    return keras.Model({"tokens": i, "memory": j}, L.Dense(3, name="out")(L.Dense(32, name="hidden")(x)))


def grouped_queries() -> keras.Model:
    i = tokens()
    x = L.Embedding(VOCABULARY, 32, name="embedding")(i)
    a = L.GroupQueryAttention(5, num_query_heads=8, num_key_value_heads=4, name="attention")(x, x)
    return pooled(i, L.Add()([x, a]))


def attention_on_images() -> keras.Model:
    """Patches by a strided convolution, attention over both spatial axes, a wide residual."""
    i = keras.Input((8, 8, 3), name="image")
    x = L.Conv2D(32, 2, strides=2, name="patches")(i)
    a = L.MultiHeadAttention(4, 6, attention_axes=(1, 2), name="attention")(x, x)
    x = L.LayerNormalization(axis=3, name="norm")(L.Add()([x, a]))
    x = L.Add()([x, feed_forward(x, 32, 64, "mlp")])
    return keras.Model(i, L.Dense(4, name="out")(L.GlobalAveragePooling2D()(x)))


def lstm_text() -> keras.Model:
    i = tokens()
    x = L.Embedding(VOCABULARY, 24, mask_zero=True, name="embedding")(i)
    x = L.LSTM(32, return_sequences=True, dropout=0.1, recurrent_dropout=0.1, name="first")(x)
    x = L.LSTM(24, name="second")(x)
    return keras.Model(i, L.Dense(5, name="out")(L.Dense(32, activation="relu", name="hidden")(x)))


def gru_audio() -> keras.Model:
    """Convolutions over time, then both forms of GRU, one of them backwards."""
    i = keras.Input((16, 6), name="signal")
    x = L.Conv1D(32, 3, strides=2, padding="causal", name="conv")(i)
    x = L.ReLU()(L.BatchNormalization(name="conv_bn")(x))
    x = L.GRU(24, return_sequences=True, name="after")(x)
    x = L.GRU(32, reset_after=False, go_backwards=True, use_bias=False, name="before")(x)
    return keras.Model(i, L.Dense(5, name="out")(x))


def bidirectional() -> keras.Model:
    """Concatenated, added, and with a backward layer of its own."""
    i = tokens()
    x = L.Embedding(VOCABULARY, 24, name="embedding")(i)
    x = L.Bidirectional(L.LSTM(32, return_sequences=True), name="concat")(x)
    x = L.Bidirectional(L.GRU(24, return_sequences=True), merge_mode="sum", name="sum")(x)
    back = L.LSTM(16, go_backwards=True, activation="sigmoid", name="back")
    x = L.Bidirectional(L.LSTM(16, name="ahead"), backward_layer=back, name="own")(x)
    return keras.Model(i, L.Dense(5, name="out")(x))


def encoder_decoder() -> keras.Model:
    """The state of one LSTM starts another: their units are one decision."""
    i, j = tokens(), keras.Input((4, 6), name="target")
    x = L.Embedding(VOCABULARY, 16, name="embedding")(i)
    _, h, c = L.LSTM(32, return_state=True, name="encoder")(x)
    y = L.LSTM(32, return_sequences=True, name="decoder")(j, initial_state=[h, c])
    x, ahead, back = L.Bidirectional(L.GRU(16, return_state=True), name="both")(y)
    x = L.Concatenate()([x, ahead, back])
    return keras.Model({"tokens": i, "target": j}, L.Dense(5, name="out")(x))


def recurrent_cells() -> keras.Model:
    i = keras.Input((WORDS, 5), name="signal")
    x = L.SimpleRNN(32, return_sequences=True, name="simple")(i)
    x = L.RNN(L.GRUCell(24), return_sequences=True, name="cell")(x)
    x = L.RNN([L.LSTMCell(32), L.SimpleRNNCell(16)], name="stack")(x)
    return keras.Model(i, L.Dense(5, name="out")(x))


def video() -> keras.Model:
    """A small vision network on every frame, layer by layer, then a recurrent layer over time."""
    i = keras.Input((3, 8, 8, 2), name="frames")
    x = L.TimeDistributed(L.Conv2D(16, 3, padding="same"), name="conv")(i)
    x = L.TimeDistributed(L.BatchNormalization(), name="bn")(x)
    x = L.TimeDistributed(L.ReLU())(x)
    x = L.TimeDistributed(L.DepthwiseConv2D(3, strides=2), name="depthwise")(x)
    x = L.TimeDistributed(L.LayerNormalization(), name="norm")(x)
    x = L.TimeDistributed(L.Flatten())(x)
    x = L.TimeDistributed(L.Dense(24, activation="relu"), name="dense")(x)
    return keras.Model(i, L.Dense(5, name="out")(L.GRU(16, name="gru")(x)))


def video_models() -> keras.Model:
    """Nested models on every frame: a functional one with a residual, and a Sequential one."""
    frame = keras.Input((8, 8, 2), name="frame")
    y = L.Conv2D(16, 3, padding="same", activation="relu", name="first")(frame)
    y = L.Add()([y, L.Conv2D(16, 3, padding="same", name="second")(y)])
    body = keras.Model(frame, L.Conv2D(24, 3, strides=2, name="third")(y), name="body")
    head = keras.Sequential([L.Flatten(), L.Dense(32, activation="relu", name="dense")], name="head")
    i = keras.Input((3, 8, 8, 2), name="frames")
    x = L.TimeDistributed(head, name="heads")(L.TimeDistributed(body, name="bodies")(i))
    return keras.Model(i, L.Dense(5, name="out")(L.GRU(16, name="gru")(x)))


def conv_lstm() -> keras.Model:
    i = keras.Input((3, 8, 8, 2), name="frames")
    x = L.ConvLSTM2D(16, 3, padding="same", return_sequences=True, name="first")(i)
    x = L.ConvLSTM2D(24, 3, name="second")(x)
    return keras.Model(i, L.Conv2D(4, 1, name="out")(x))


def einsum_layers() -> keras.Model:
    """Dense layers spelled as EinsumDense: with and without ellipsis, biased per position, mixing positions."""
    i = keras.Input((WORDS, 5), name="signal")
    x = L.EinsumDense("...c,cd->...d", 32, bias_axes="d", activation="relu", name="ellipsis")(i)
    x = L.EinsumDense("btc,cd->btd", (WORDS, 24), name="plain")(x)
    x = L.EinsumDense("btc,ts->bsc", (8, 24), bias_axes="sc", name="positions")(x)
    x = L.EinsumDense("btc,c->btc", (8, 24), name="scale")(x)
    x = L.EinsumDense("btc,cd->btd", (8, 40), bias_axes="d", name="wide")(x)
    heads = L.EinsumDense("btc,chd->bthd", (8, 3, 16), bias_axes="hd", name="split")(x)
    return keras.Model(i, L.EinsumDense("bthd,hdo->bto", (8, 4), name="out")(heads))


def attention_by_ops() -> keras.Model:
    """Attention in plain operations: the values can shrink, queries and keys are summed without weights."""
    i = tokens()
    x = L.Embedding(VOCABULARY, 32, name="embedding")(i)
    q, k, v = (L.Dense(32, name=name)(x) for name in ("query", "key", "value"))
    scores = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 2, 1))) * 0.2, axis=-1)
    x = L.Add()([x, L.Dense(32, name="project")(ops.matmul(scores, v))])
    again = ops.softmax(ops.einsum("btc,bsc->bts", x, x), axis=-1)
    mixed = ops.einsum("bts,bsc->btc", again, L.Dense(24, name="einsum_value")(x))
    return pooled(i, L.Dense(40, name="after")(mixed))


def attention_layer() -> keras.Model:
    i = tokens()
    x = L.Embedding(VOCABULARY, 32, name="embedding")(i)
    q, k, v = (L.Dense(24, name=name)(x) for name in ("query", "key", "value"))
    x = L.AdditiveAttention(name="additive")([q, L.Attention(use_scale=True, name="dot")([q, v, k]), k])
    return pooled(i, L.Dense(32, name="after")(x))


def masked_signal() -> keras.Model:
    i = keras.Input((WORDS, 5), name="signal")
    x = L.LSTM(32, return_sequences=True, name="lstm")(L.Masking(0.0)(i))
    return keras.Model(i, L.Dense(4, name="out")(L.GRU(16, name="gru")(x)))


def shared_block() -> keras.Model:
    """One transformer block used three times in series, in a nested model."""
    j = keras.Input((WORDS, 32), name="inner_in")
    normed = L.LayerNormalization(name="norm")(j)
    y = L.Add()([j, L.MultiHeadAttention(4, 8, name="attention")(normed, normed)])
    y = L.Add()([y, feed_forward(y, 32, 64, "mlp")])
    block = keras.Model(j, y, name="block")
    i = tokens()
    return pooled(i, block(block(block(L.Embedding(VOCABULARY, 32, name="embedding")(i)))))


def shown_scores() -> keras.Model:
    """Attention scores are an output, head by head: the heads have to stay, the rest does not."""
    i = tokens()
    x = L.Embedding(VOCABULARY, 32, name="embedding")(i)
    x, scores = L.MultiHeadAttention(4, 8, name="attention")(x, x, return_attention_scores=True)
    return keras.Model(i, {"class": L.Dense(5, name="out")(L.Dense(48, name="after")(x)), "scores": scores})


def vision_transformer() -> keras.Model:
    """ViT: patches as tokens, learned positions, pre-norm blocks, a norm before the head (Dosovitskiy et al., 2021)."""
    i = keras.Input((16, 16, 3), name="image")
    x = L.Reshape((16, 48))(L.Conv2D(48, 4, strides=4, name="patches")(i))
    x = L.EinsumDense("btc,cd->btd", (16, 48), bias_axes="td", name="positions")(x)
    for k in range(2):
        normed = L.LayerNormalization(epsilon=1e-6, name=f"norm{k}")(x)
        x = L.Add()([x, L.MultiHeadAttention(6, 8, name=f"attention{k}")(normed, normed)])
        x = L.Add()([x, feed_forward(L.LayerNormalization(epsilon=1e-6)(x), 48, 192, f"mlp{k}")])
    return pooled(i, L.LayerNormalization(epsilon=1e-6, name="last_norm")(x))


def convnext() -> keras.Model:
    """ConvNeXt: wide depthwise kernels, norms, inverted bottlenecks (Liu et al., 2022)."""
    i = keras.Input((32, 32, 3), name="image")
    x = L.LayerNormalization(epsilon=1e-6, name="stem_norm")(L.Conv2D(24, 4, strides=4, name="stem")(i))
    for stage, width in enumerate((24, 48)):
        if stage:
            x = L.LayerNormalization(epsilon=1e-6, name="down_norm")(x)
            x = L.Conv2D(width, 2, strides=2, name="down")(x)
        for k in range(2):
            y = L.DepthwiseConv2D(7, padding="same", name=f"depthwise{stage}{k}")(x)
            y = L.LayerNormalization(epsilon=1e-6, name=f"norm{stage}{k}")(y)
            x = L.Add()([x, feed_forward(y, width, 4 * width, f"mlp{stage}{k}")])
    x = L.LayerNormalization(epsilon=1e-6, name="last_norm")(L.GlobalAveragePooling2D()(x))
    return keras.Model(i, L.Dense(5, name="out")(x))


GRAPHS: dict[str, Callable[[], keras.Model]] = {
    build.__name__: build
    for build in (
        pre_norm_text,
        post_norm_rms_masked,
        cross_attention,
        grouped_queries,
        attention_on_images,
        lstm_text,
        gru_audio,
        bidirectional,
        encoder_decoder,
        recurrent_cells,
        video,
        video_models,
        conv_lstm,
        einsum_layers,
        attention_by_ops,
        attention_layer,
        masked_signal,
        shared_block,
        shown_scores,
        vision_transformer,
        convnext,
    )
}


def build(name: str, seed: int = 0) -> keras.Model:
    """Build one graph; random biases, scales and statistics too, so that no two units are alike."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = GRAPHS[name]()
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name in ("gamma", "scale", "moving_variance"):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("bias", "beta", "moving_mean"):
            weight.assign(random.normal(0.0, 0.3, weight.shape))
        elif weight.name == "embeddings":
            weight.assign(random.normal(0.0, 1.0, weight.shape))
    return model


def samples(model: keras.Model, count: int = 4, seed: int = 1) -> dict[str, Any]:
    """Draw inputs: Gaussian signals whose last step is padding, or token ids that end in padding (0)."""
    random = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    for tensor in model.inputs:
        shape = (count, *tensor.shape[1:])
        if tensor.dtype.startswith("int"):
            arrays[tensor.name] = random.integers(1, VOCABULARY, shape).astype(tensor.dtype)
        else:
            arrays[tensor.name] = random.normal(size=shape).astype(np.float32)
        arrays[tensor.name][:, -1] = 0
    return arrays
