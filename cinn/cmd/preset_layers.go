package main

import (
	"context"
	"fmt"
	"image"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"netfusion/cinn"
	"netfusion/cinn/train"
	"netfusion/experts/autoencoder"
)

// shownLayers are an early, a middle and a late stage of the pack's image encoder, and what it gives.
func (l *lesson) shownLayers() ([]string, error) {
	part, err := cinn.ReadPart(l.pack, "encoder")
	if err != nil {
		return nil, err
	}
	c, err := autoencoder.ParseConfig(l.pack.Origin(), []byte(part.Meta["config"]))
	if err != nil {
		return nil, err
	}
	names := c.Layers()
	n := len(names) - 1 // stages
	return slices.Compact([]string{names[0], names[n/2], names[n-1], names[n]}), nil
}

// allLayers runs the preset layers for each of them and puts the outcomes beside each other: a flow that knows more of a picture has the
// lower likelihood left to explain, and samples that differ less.
func (p *presetRun) allLayers(ctx context.Context, s stdio, l *lesson, q preset) error {
	out := presetFiles{p.folder, q.name}
	if taken(out.sheet()) && !p.force {
		return existsError(out.sheet())
	}
	shown, err := l.shownLayers()
	if err != nil {
		return err
	}
	var text strings.Builder
	t := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "preset %s: %s\nNLL in nats per dimension of z; samples: root mean square differences of colours, of 255\n\n", q.name, q.brief)
	fmt.Fprintf(t, "layer\tflow\tridge\tMLP\tsamples from the truth\tsamples from each other\n")
	rows := make([][]*image.NRGBA, sheetRows/2) // every second example: with four layers a row is long
	for _, p.layer = range shown {
		fmt.Fprintf(s.err, "%s\n", p.layer)
		o, err := p.one(ctx, l, q, presetFiles{p.folder, q.name + "-" + p.layer}, s.err)
		if err != nil {
			return err
		}
		fmt.Fprintf(t, "%s\t", p.layer)
		for _, name := range []string{"flow", "ridge", "MLP"} {
			for _, m := range o.report.Likelihoods {
				if m.Model == name {
					fmt.Fprintf(t, "%.4f", m.Z)
				}
			}
			fmt.Fprint(t, "\t")
		}
		fmt.Fprintf(t, "%.1f\t%.1f\n", o.samples.truth, o.samples.spread)
		for i := range rows {
			row := o.rows[2*i]
			if len(rows[i]) == 0 {
				rows[i] = row[:1:1]
			}
			rows[i] = append(rows[i], row[1:3]...)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, layer := range shown {
		if err := train.RemoveCheckpoint(presetFiles{p.folder, q.name + "-" + layer}.checkpoint()); err != nil {
			return err
		}
	}
	if err := out.writeSheet(rows); err != nil {
		return err
	}
	if err := os.WriteFile(out.table(), []byte(text.String()), 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%s\n%s and %s, and a pack, a sheet and a table for each layer\n", text.String(), out.sheet(), out.table())
	return err
}
