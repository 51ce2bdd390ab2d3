"""JAX's side of tests/bench/run: jax_peer.py THREADS STEPS_PER_CALL, with the protocol of serve.cpp.

A whole step is one jit, batch and update included, and its buffers are donated; more steps per call are one lax.scan.
XLA takes as many threads as the process has processors. The settings are the fastest we found, as random bits by `rbg`.
"""
import itertools
import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import optax

import jax_models
import peer

per_call = int(sys.argv[2])
jax.config.update("jax_default_prng_impl", "unsafe_rbg")
cross_entropy = optax.softmax_cross_entropy_with_integer_labels
pending = [()]  # what the last call returned: JAX returns before it is computed


def train(kind, batch, rule):
    forward, layers = jax_models.make(kind)
    optimizer = optax.adam(1e-3) if rule == "adam" else optax.sgd(0.02, momentum=0.9)
    images, labels = map(jnp.asarray, peer.data())
    calls = peer.batches_of(len(labels), int(batch) * per_call).reshape(-1, per_call, int(batch))
    calls = itertools.cycle([jnp.asarray(call) for call in calls])

    def mean_loss(layers, x, y, key):
        return cross_entropy(forward(layers, x, key), y).mean()

    def one(state, index, images, labels):
        layers, moments, key = state
        key, dropped = jax.random.split(key)
        gradients = jax.grad(mean_loss)(layers, images[index], labels[index], dropped)
        updates, moments = optimizer.update(gradients, moments, layers)
        return optax.apply_updates(layers, updates), moments, key

    def many(state, indices, images, labels):
        if per_call == 1:
            return one(state, indices[0], images, labels)
        return jax.lax.scan(lambda state, index: (one(state, index, images, labels), None), state, indices)[0]

    compiled = jax.jit(many, donate_argnums=0)
    pending[0] = (layers, optimizer.init(layers), jax.random.key(1))

    def step():
        pending[0] = compiled(pending[0], next(calls), images, labels)

    return step


def loss(rows, classes, dtype, _):
    """The gradient takes the logits' memory and is the next step's logits, as ours in place."""
    rows, classes = int(rows), int(classes)
    logits = jax.random.normal(jax.random.key(1), (rows, classes), jnp.bfloat16 if dtype == "bf16" else jnp.float32)
    labels = jax.random.randint(jax.random.key(2), (rows,), 0, classes)
    both = jax.jit(jax.value_and_grad(lambda x, y: cross_entropy(x, y).mean()), donate_argnums=0)
    pending[0] = (None, logits)
    del logits

    def step():
        pending[0] = both(pending[0][1], labels)

    return step


def make_work(words):
    pending[0] = ()
    jax.clear_caches()
    kind, *rest = words
    return (loss(*rest), 1) if kind == "loss" else (train(*words), per_call)


peer.serve(f"JAX {jax.__version__}", make_work, lambda: jax.block_until_ready(pending[0]))
