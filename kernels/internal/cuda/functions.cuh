// The activation functions, by the approximations of kernels/activation (the source of the constants is named there), in
// float32 with fused multiply-adds as in its vector forms. No hardware approximation takes part, so that the error bounds
// stated there hold, and are proven without the hardware.
#pragma once

// horner evaluates the polynomial with these coefficients, the highest power's first, at x.
template <class... C> inline float horner(float x, float first, C... rest) {
	((first = fmaf(first, x, rest)), ...);
	return first;
}

// A NaN passes, since it compares as false.
inline float clamp(float x, float low, float high) {
	x = x > high ? high : x;
	return x < low ? low : x;
}

// 2ⁿ for a normal result.
inline float pow2(int n) { return __int_as_float((n + 127) << 23); }

// eˣ = 2ⁿ·eʳ with n = round(x/ln 2). 2ⁿ is applied in two halves, so that neither is out of range where the result is
// denormal or infinite.
inline float exponential(float x) {
	x = clamp(x, -104, 89);
	float n = rintf(x * 1.44269504f);
	float r = fmaf(n, -0.693359375f, x);
	r = fmaf(n, 2.12194440e-4f, r);
	float y = horner(r, 1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f);
	y = fmaf(y, r * r, r) + 1;
	int i = int(n), half = i >> 1;
	return y * pow2(half) * pow2(i - half);
}

inline float tanh_of(float x) {
	float a = fabsf(x);
	if (a < 0.625f) {
		float z = x * x;
		float y = horner(z, -5.70498872745e-3f, 2.06390887954e-2f, -5.37397155531e-2f, 1.33314422036e-1f, -3.33332819422e-1f);
		return fmaf(y * z, x, x);
	}
	return copysignf(1 - 2 / (exponential(2 * a) + 1), x);
}

// x·Φ(x), with erf a quotient of polynomials.
inline float gelu(float x) {
	float z = clamp(x * 0.707106781f, -4, 4), t = z * z;
	float p = horner(t, -2.72614225801306e-10f, 2.77068142495902e-08f, -2.10102402082508e-06f, -5.69250639462346e-05f,
		-7.34990630326855e-04f, -2.95459980854025e-03f, -1.60960333262415e-02f);
	float q = horner(t, -1.45660718464996e-05f, -2.13374055278905e-04f, -1.68282697438203e-03f, -7.37332916720468e-03f,
		-1.42647390514189e-02f);
	float erf = clamp(z * p / q, -1, 1), half = 0.5f * x;
	return fmaf(half, erf, half);
}

// The approximation of GELU by tanh, which some text encoders are trained with: sqrt(2/π) = 0.797884561.
inline float gelu_tanh(float x) {
	float t = tanh_of(0.797884561f * fmaf(0.044715f * x * x, x, x));
	return 0.5f * x * (1 + t);
}

inline float relu(float x) { return x < 0 ? 0 : x; }
inline float leaky_relu(float x, float slope = 0.01f) { return x > 0 ? x : slope * x; }

// Activation is what a fused kernel applies to its results, with the numbers of matmul.Act.
enum Activation : int { none_act, gelu_act, tanh_act, leaky_relu_act, relu_act };

inline float activate(int act, float x) {
	switch (act) {
	case gelu_act: return gelu(x);
	case tanh_act: return tanh_of(x);
	case leaky_relu_act: return leaky_relu(x);
	case relu_act: return relu(x);
	}
	return x;
}
