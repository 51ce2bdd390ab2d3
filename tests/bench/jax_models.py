"""The models of 04_mnist_mlp and 05_mnist_cnn in JAX, and the smaller MLP: for jax_peer and jax_program.

A max-pool is a reshape and a maximum: the gradient of reduce_window is slow on a CPU.
"""
import jax
import jax.numpy as jnp
import numpy


def weights(*shapes):
    """He's uniform weights and zero biases; the last axis is the outputs."""
    random = numpy.random.default_rng(1)
    bounds = [(6 / numpy.prod(shape[:-1])) ** 0.5 for shape in shapes]
    return [(jnp.asarray(random.uniform(-bound, bound, shape), jnp.float32), jnp.zeros(shape[-1]))
            for bound, shape in zip(bounds, shapes)]


def mlp(layers, x, _):
    *hidden, last = layers
    for w, b in hidden:
        x = jax.nn.relu(x @ w + b)
    return x @ last[0] + last[1]


def conv(x, layer):
    kernel, bias = layer
    order = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=order) + bias


def dropout(x, rate, key):
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


def cnn(layers, x, key):
    conv1, conv2, *linear = layers
    keys = jax.random.split(key)
    x = jax.nn.relu(conv(jax.nn.relu(conv(x.reshape(-1, 28, 28, 1), conv1)), conv2))
    x = x.reshape(-1, 12, 2, 12, 2, 64).max((2, 4)).reshape(-1, 9216)
    x = jax.nn.relu(dropout(x, 0.25, keys[0]) @ linear[0][0] + linear[0][1])
    return dropout(x, 0.5, keys[1]) @ linear[1][0] + linear[1][1]


SHAPES = {
    "mlp": ((784, 512), (512, 256), (256, 10)),
    "small": ((784, 128), (128, 10)),
    "cnn": ((3, 3, 1, 32), (3, 3, 32, 64), (9216, 128), (128, 10)),
}


def make(kind):
    """Returns (forward, layers), where forward(layers, images [batch, 784], random key) returns logits."""
    return cnn if kind == "cnn" else mlp, weights(*SHAPES[kind])
