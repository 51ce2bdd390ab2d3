"""The models of 04_mnist_mlp and 05_mnist_cnn in PyTorch, and the smaller MLP: for torch_peer and torch_program."""
import torch
import torch.nn.functional as F
from torch import nn


class Cnn(nn.Module):
    def __init__(self, layout):
        super().__init__()
        self.layout = layout
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3)
        self.fc1, self.fc2 = nn.Linear(9216, 128), nn.Linear(128, 10)

    def forward(self, x):
        x = x.view(-1, 1, 28, 28).contiguous(memory_format=self.layout)
        x = F.max_pool2d(F.relu(self.conv2(F.relu(self.conv1(x)))), 2)
        x = F.relu(self.fc1(torch.flatten(F.dropout(x, 0.25, self.training), 1)))
        return self.fc2(F.dropout(x, 0.5, self.training))


def mlp(*sizes):
    layers = [layer for pair in zip(sizes, sizes[1:]) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def make(kind, layout):
    """Returns the model "mlp", "small" or "cnn", its weights in that memory format."""
    models = {"mlp": lambda: mlp(784, 512, 256, 10), "small": lambda: mlp(784, 128, 10), "cnn": lambda: Cnn(layout)}
    return models[kind]().to(memory_format=layout)
