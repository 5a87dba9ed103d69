// The formulas of dense delay kernels, for one element, on CPU and GPU (math.h stands before this text).
//
// c = position + K / 2,  u = k - c,  s = |width| + base,  phi_k = r_k / (sum_k r_k + eps):
//   bilinear  r = 1 - |u| on -1 < u <= 1, not normalised     triangle  r = max(0, s - |u|)
//   gauss     r = exp(-u^2 / (2 s^2))

enum Profile { BILINEAR, TRIANGLE, GAUSS };

#define SNN_EPS 1e-7

// exp(x) for x <= 0, 0 below the cut. What is cut is under 1e-27 (float) or 1e-86 (double) beside sums of at least
// eps: far below rounding, and the kernel holds no subnormal numbers, which make matrix products slow.
template <typename Real>
SNN_INLINE Real negative_exp(Real x) {
  const Real cut = sizeof(Real) == 4 ? -64 : -200;
  Real y = snn_exp(x < cut ? cut : x);  // in this form a NaN stays one
  return x < cut ? Real(0) : y;
}

// r, and up to a factor of the element (1 / s^2, 1 / s^3 for the gauss): q = dr/dposition, z = dr/ds.
template <typename Real>
struct Tap {
  Real r, q, z;
};

// a = 1 / (2 s^2).
template <Profile profile, typename Real>
SNN_INLINE Tap<Real> tap(Real u, Real s, Real a) {
  const Real zero = 0, one = 1;
  if (profile == GAUSS) {
    Real r = negative_exp(-(u * u) * a);
    return {r, r * u, r * u * u};
  }
  if (profile == TRIANGLE) {
    Real r = s - snn_abs(u);
    r = r < zero ? zero : r;  // in this form a NaN stays one
    Real on = r > zero ? one : zero;
    return {r, u > zero ? on : u < zero ? -on : zero, on};
  }
  Real r = one - snn_abs(u);
  r = r < zero ? zero : r;
  Real left = u > -one && u <= zero ? one : zero, right = u > zero && u <= one ? one : zero;
  return {r, right - left, zero};
}

// By what r is multiplied to be the share of an element of weight w, given the sum of r.
template <Profile profile, typename Real>
SNN_INLINE Real height(Real w, Real sum) {
  return profile == BILINEAR ? w : w / (sum + Real(SNN_EPS));
}

// Sums over k: of r, q, z, and of G r, G q, G z with the gradient G of the kernel.
template <typename Real>
struct Sums {
  Real r, q, z, gr, gq, gz;
};

template <typename Real>
struct Gradients {
  Real weight, position, width;
};

// With Z = sum_k r + eps and A = sum_k G r / Z:
//   dL/dweight = A,  dL/dposition = w / Z * sum_k (G - A) q,  dL/dwidth = sign(width) * w / Z * sum_k (G - A) z.
template <Profile profile, typename Real>
SNN_INLINE Gradients<Real> gradients(Real w, Real s, Real width, const Sums<Real> &sum) {
  if (profile == BILINEAR) return {sum.gr, w * sum.gq, Real(0)};
  const Real Z = sum.r + Real(SNN_EPS), A = sum.gr / Z;
  Real scale = w / Z;
  if (profile == GAUSS) scale /= s * s;
  const Real position = scale * (sum.gq - A * sum.q);
  if (profile == GAUSS) scale /= s;
  return {A, position, scale * (sum.gz - A * sum.z) * Real((width > 0) - (width < 0))};
}
