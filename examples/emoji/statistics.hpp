// SPDX-License-Identifier: Apache-2.0
// Figures of whole sets of pictures: how far generated ones are from real ones, how much they differ among themselves.
#pragma once

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "drawing.hpp"
#include "scoring.hpp"

namespace emoji {

// Rows: pictures. Features of the autoencoder's encoder: its latents, the mean over each of 4x4 fields.
inline Eigen::MatrixXd picture_features(Autoencoder& vae, const std::vector<md::Image>& images) {
  constexpr md::UnetConfig c = demo.unet;
  constexpr std::size_t fields = 4, channels = c.latent_channels, high = c.height / fields, wide = c.width / fields;
  Eigen::MatrixXd out = Eigen::MatrixXd::Zero(static_cast<Eigen::Index>(images.size()), fields * fields * channels);
  std::vector<float> x(Autoencoder::group * picture_bytes), z(Autoencoder::group * Autoencoder::latents);
  for (std::size_t first = 0; first < images.size(); first += Autoencoder::group) {
    const std::size_t n = std::min(Autoencoder::group, images.size() - first);
    for (std::size_t i = 0; i < n; ++i) to_floats(images[first + i], &x[i * picture_bytes]);
    vae.encode(x.data(), n, z.data());
    for (std::size_t i = 0; i < n * Autoencoder::latents; ++i) {
      const std::size_t pixel = i % Autoencoder::latents / channels,
                        field = pixel / c.width / high * fields + pixel % c.width / wide;
      out(static_cast<Eigen::Index>(first + i / Autoencoder::latents),
          static_cast<Eigen::Index>(field * channels + i % channels)) += static_cast<double>(z[i]) / (high * wide);
    }
  }
  return out;
}

// Squared Frechet distance of normal distributions with the means and covariances of two sets of rows (Heusel et al., arXiv
// 1706.08500, equation 6). Throws md::Error for fewer than two rows or rows of different lengths. Few rows make it too large.
inline double frechet_distance(const Eigen::MatrixXd& a, const Eigen::MatrixXd& b) {
  if (a.rows() < 2 || b.rows() < 2 || a.cols() != b.cols())
    throw md::Error("frechet distance: expected two rows or more of equal length in both sets");
  const auto covariance = [](const Eigen::MatrixXd& x) -> Eigen::MatrixXd {
    const Eigen::MatrixXd centred = x.rowwise() - x.colwise().mean();
    return centred.transpose() * centred / static_cast<double>(x.rows() - 1);
  };
  const Eigen::MatrixXd s = covariance(a), t = covariance(b);
  // Tr (S T)^(1/2) = Tr (S^(1/2) T S^(1/2))^(1/2), where everything is symmetric.
  const Eigen::MatrixXd root = [&]() -> Eigen::MatrixXd {
    const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> e(s);
    return e.eigenvectors() * e.eigenvalues().cwiseMax(0.0).cwiseSqrt().asDiagonal() * e.eigenvectors().transpose();
  }();
  const Eigen::MatrixXd between = root * t * root;
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> e(between, Eigen::EigenvaluesOnly);
  return (a.colwise().mean() - b.colwise().mean()).squaredNorm() + s.trace() + t.trace() -
         2.0 * e.eigenvalues().cwiseMax(0.0).cwiseSqrt().sum();
}

// Root mean square difference in grey levels (0 to 255) of two pictures of the same prompt, mean over all pairs: images hold
// `each` pictures of a prompt, then those of the next. 0: noise makes no difference.
inline double variety_of(const std::vector<md::Image>& images, std::size_t each) {
  double sum = 0;
  std::size_t pairs = 0;
  for (std::size_t first = 0; first + each <= images.size(); first += each)
    for (std::size_t a = first; a < first + each; ++a)
      for (std::size_t b = a + 1; b < first + each; ++b, ++pairs)
        sum += std::sqrt(mean_squared_error(images[a].rgb, images[b].rgb));
  if (pairs == 0) throw md::Error("variety: expected two pictures or more of a prompt");
  return sum / static_cast<double>(pairs);
}

}  // namespace emoji
