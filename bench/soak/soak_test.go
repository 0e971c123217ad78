package soak

import (
	"context"
	"errors"
	"testing"

	"netfusion/bench/tiny"
	"netfusion/cinn"
)

func TestRun(t *testing.T) {
	m, err := cinn.Open(tiny.Pack(t), cinn.Options{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	calls := 0
	r, err := Run(context.Background(), m, 200, func() (int, error) {
		calls++
		return 100 * calls, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Device != 100 || calls != 2 {
		t.Errorf("%d measurements of the device, a growth of %d", calls, r.Device)
	}
	if r.Host > 4<<20 {
		t.Errorf("a Session grew by %d bytes in %d requests", r.Host, r.Requests)
	}
	if !(0 < r.P50 && r.P50 <= r.P99 && r.P99 <= r.Slowest) {
		t.Error(r)
	}
	lost := errors.New("lost")
	if _, err := Run(context.Background(), m, 10, func() (int, error) { return 0, lost }); !errors.Is(err, lost) {
		t.Error(err)
	}
	if _, err := Run(context.Background(), m, 9, nil); err == nil {
		t.Error("too few requests, and no error")
	}
}
