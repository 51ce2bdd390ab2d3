"""04_mnist_mlp --epochs 1 and 05_mnist_cnn --epochs 1 in PyTorch: torch_program.py 04_mnist_mlp|05_mnist_cnn THREADS.

Trains for one epoch with fused Adam, in channels_last, and prints the test accuracy. The data is one float tensor, from
which a step takes its batch: a DataLoader would cost more.
"""
import sys

import torch
import torch.nn.functional as F

import peer
import torch_models

kind, threads = sys.argv[1].split("_")[-1], int(sys.argv[2])
torch.set_num_threads(threads)
torch.manual_seed(1)

(images, labels), (test_images, test_labels) = (map(torch.from_numpy, peer.data(split)) for split in ("train", "t10k"))
deviation, mean = torch.std_mean(images)
images, test_images = images.sub_(mean).div_(deviation), test_images.sub_(mean).div_(deviation)
labels, test_labels = labels.long(), test_labels.long()

model = torch_models.make(kind, torch.channels_last)
optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
for index in torch.randperm(len(labels)).split(64):
    optimizer.zero_grad()
    F.cross_entropy(model(images.index_select(0, index)), labels.index_select(0, index)).backward()
    optimizer.step()

model.eval()
with torch.no_grad():
    right = sum((model(x).argmax(1) == y).sum() for x, y in zip(test_images.split(1000), test_labels.split(1000)))
print(f"test accuracy {100 * right / len(test_labels):.2f} %")
