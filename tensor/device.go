package tensor

// Device runs operations on the CPU. It is one caller's lane: it serves one goroutine at a time, and what its
// operations need besides their operands lives in it, so that none of them allocates. Each operation has a file of
// its own: <op>.go holds its Job, its shape checks and its method.
type Device struct {
	pool *Pool

	// One Job per operation, reused by every call.
	matmul    matmulJob
	roundRows roundJob
	patches   patchesJob
	winograd  winogradJob
	taps      tapsJob
	affine    affineJob
	groupNorm groupNormJob
	layerNorm layerNormJob
	attention attentionJob
	prelu     preluJob
	poolKeys  poolKeysJob
	pooled    pooledJob

	scratch scratch
	rounded rounded
	one     [1]Weight // of the product under way, if it has no groups
}

// CPU returns a Device over workers goroutines, the caller among them; workers <= 0 means GOMAXPROCS.
func CPU(workers int) *Device { return &Device{pool: NewPool(workers)} }

// Close ends the Device's workers.
func (d *Device) Close() { d.pool.Close() }

// Workers is how many goroutines share an operation.
func (d *Device) Workers() int { return d.pool.Workers() }

// Run shares the tiles of a caller's own Job among the Device's workers.
func (d *Device) Run(j Job, tiles int) { d.pool.Run(j, tiles) }
