// xent: a small autodiff and training engine. This header brings in all of it.
//
//   #include <xent/xent.h>
#pragma once

#include <xent/core/dispatch.h>
#include <xent/core/gradcheck.h>
#include <xent/core/parallel.h>
#include <xent/core/profile.h>
#include <xent/core/step.h>
#include <xent/core/tape.h>
#include <xent/nn/checkpoint.h>
#include <xent/nn/clip.h>
#include <xent/nn/conv_layers.h>
#include <xent/nn/digits.h>
#include <xent/nn/init.h>
#include <xent/nn/label_check.h>
#include <xent/nn/layers.h>
#include <xent/nn/loader.h>
#include <xent/nn/metrics.h>
#include <xent/nn/mnist.h>
#include <xent/nn/module.h>
#include <xent/nn/norm_layers.h>
#include <xent/nn/optimizer.h>
#include <xent/nn/random_layers.h>
#include <xent/nn/schedule.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>
