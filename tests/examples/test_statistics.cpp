// SPDX-License-Identifier: Apache-2.0
#include <Eigen/Geometry>
#include <cmath>
#include <vector>

#include "catch.hpp"
#include "emoji/statistics.hpp"

namespace {

namespace md = mobilediffusion;
using emoji::frechet_distance;

// Normal numbers, column j times scale[j] plus shift[j].
Eigen::MatrixXd rows(std::size_t n, std::uint64_t stream, const std::vector<double>& scale, const std::vector<double>& shift) {
  std::vector<float> v(n * scale.size());
  md::Random(5, stream).normals(v);
  Eigen::MatrixXd out(static_cast<Eigen::Index>(n), static_cast<Eigen::Index>(scale.size()));
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < scale.size(); ++j)
      out(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j)) =
          static_cast<double>(v[i * scale.size() + j]) * scale[j] + shift[j];
  return out;
}

md::Image grey(std::uint8_t level) {
  md::Image image(2, 2);
  image.rgb.assign(12, level);
  return image;
}

}  // namespace

TEST_CASE("the Frechet distance of normal distributions is the closed form", "[statistics]") {
  const std::size_t n = 20000;
  const Eigen::MatrixXd a = rows(n, 1, {1, 2, 3}, {0, 0, 0}), b = rows(n, 2, {2, 2, 1}, {1, 0, -2});
  CHECK(std::abs(frechet_distance(a, a)) < 1e-9);
  // Independent columns: squared differences of means and of deviations.
  const double expected = (1.0 + 0.0 + 4.0) + (1.0 + 0.0 + 4.0);
  CHECK(std::abs(frechet_distance(a, b) - expected) < 0.15);
  CHECK(std::abs(frechet_distance(a, b) - frechet_distance(b, a)) < 1e-9);
  // A rotation of both changes nothing, so columns that depend on each other are treated alike.
  const Eigen::Matrix3d turn =
      (Eigen::AngleAxisd(0.7, Eigen::Vector3d::UnitX()) * Eigen::AngleAxisd(-1.1, Eigen::Vector3d::UnitZ())).toRotationMatrix();
  CHECK(std::abs(frechet_distance(a * turn, b * turn) - frechet_distance(a, b)) < 1e-9);
}

TEST_CASE("the Frechet distance refuses sets that have no covariance in common", "[statistics]") {
  CHECK_THROWS_AS(frechet_distance(Eigen::MatrixXd::Zero(1, 3), Eigen::MatrixXd::Zero(5, 3)), md::Error);
  CHECK_THROWS_AS(frechet_distance(Eigen::MatrixXd::Zero(5, 2), Eigen::MatrixXd::Zero(5, 3)), md::Error);
}

TEST_CASE("variety is the mean difference between pictures of one prompt", "[statistics]") {
  // Two prompts of three pictures: differences 10, 30, 20, then none.
  const std::vector<md::Image> images{grey(10), grey(20), grey(40), grey(9), grey(9), grey(9)};
  CHECK(std::abs(emoji::variety_of(images, 3) - 10.0) < 1e-9);
  CHECK_THROWS_AS(emoji::variety_of(images, 1), md::Error);
}
