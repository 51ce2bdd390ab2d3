// MNIST and Fashion-MNIST: 60000 training and 10000 test images of 28 x 28 pixels in ten classes.
//
//   ImageDataset train = load_mnist(find_fashion_mnist(), Split::train);
#pragma once

#include <string>

#include <xent/nn/image_dataset.h>

namespace xent {

enum class Split { train, test };

// Reads a split from the four files the data set is published as, train-images-idx3-ubyte, train-labels-idx1-ubyte,
// t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each as it is or with .gz. Throws FormatError, naming the folder
// or the file, if one is missing or damaged, or if images and labels do not belong together.
ImageDataset load_mnist(const std::string& folder, Split split);

// Returns the folder of Fashion-MNIST if the package dataset-fashion-mnist of Debian and Ubuntu is installed, else "".
std::string find_fashion_mnist();

}  // namespace xent
