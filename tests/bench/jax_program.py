"""04_mnist_mlp --epochs 1 in JAX: jax_program.py. Trains for one epoch with Adam and prints the test accuracy.

A step is one jit with donated buffers, which takes its batch from one float array; what XLA compiled is kept by
JAX_COMPILATION_CACHE_DIR. The batch that is not full is left out, as it would be compiled for itself.
"""
import os

os.environ["JAX_PLATFORMS"] = "cpu"

import functools

import jax
import jax.numpy as jnp
import optax

import jax_models
import peer

forward, layers = jax_models.make("mlp")
optimizer = optax.adam(1e-3)
images, labels = peer.data()
mean, deviation = images.mean(), images.std()
images, labels = jnp.asarray(images), jnp.asarray(labels)


def mean_loss(layers, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(forward(layers, (x - mean) / deviation, None), y).mean()


@functools.partial(jax.jit, donate_argnums=0)
def step(state, index, images, labels):
    layers, moments = state
    gradients = jax.grad(mean_loss)(layers, images[index], labels[index])
    updates, moments = optimizer.update(gradients, moments, layers)
    return optax.apply_updates(layers, updates), moments


@jax.jit
def right(layers, x, y):
    return (forward(layers, (x - mean) / deviation, None).argmax(1) == y).sum()


state = layers, optimizer.init(layers)
for index in peer.batches_of(len(labels), 64):
    state = step(state, index, images, labels)
images, labels = peer.data("t10k")
print(f"test accuracy {100 * right(state[0], images, labels) / len(labels):.2f} %")
