package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"

	"netfusion/cinn/pairs"
	"netfusion/cinn/train"
)

// storeInspection is what inspect -json prints of a store of pairs.
type storeInspection struct {
	File     string         `json:"file"`
	Header   pairs.Header   `json:"header"` // without the class table
	Pairs    int            `json:"pairs"`
	Splits   map[string]int `json:"splits"`
	Bytes    int            `json:"bytes"`
	Verified bool           `json:"verified"`
}

// inspectStore shows what a store says of itself, and verifies every pair.
func inspectStore(ctx context.Context, s stdio, path string, asJSON bool) error {
	store, err := pairs.OpenStore(path)
	if err != nil {
		return err
	}
	defer store.Close()
	in := storeInspection{File: path, Header: store.Header, Pairs: store.Len(), Bytes: store.Bytes(), Splits: map[string]int{}}
	in.Header.Table = nil
	for _, split := range []pairs.Split{pairs.Train, pairs.Validation, pairs.Test} {
		in.Splits[split.String()] = len(store.Select(split))
	}
	_, damage := store.Verify(ctx, nil)
	in.Verified = damage == nil
	if asJSON {
		if err := json.NewEncoder(s.out).Encode(in); err != nil {
			return err
		}
		return damage
	}
	h := &in.Header
	fmt.Fprintf(s.out, "%s: a store of %d pairs, %s: %s\n", path, in.Pairs, train.Bytes(in.Bytes), h.Source)
	t := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "condition\t%d × %s\nlatent\t%d × %s\n", h.Cond, h.Type, h.Latent, h.Type)
	if h.Std {
		fmt.Fprintln(t, "latent's deviation\tin every pair")
	}
	if h.Classes > 0 {
		fmt.Fprintf(t, "classes\t%d, embedded in %d dimensions\n", h.Classes, h.ClassDim)
	}
	fmt.Fprintf(t, "splits\ttrain %d, validation %d, test %d\n", in.Splits["train"], in.Splits["validation"], in.Splits["test"])
	for _, about := range []struct {
		what string
		of   map[string]string
	}{{"recipe", h.Recipe}, {"made by", h.Fingerprints}, {"licence", h.Licences}} {
		for _, key := range slices.Sorted(maps.Keys(about.of)) {
			fmt.Fprintf(t, "%s\t%s: %.300s\n", about.what, key, about.of[key])
		}
	}
	t.Flush()
	if damage == nil {
		fmt.Fprintln(s.out, "checksums: all right")
	}
	return damage
}
