package main

import (
	"context"
	"fmt"
	"image"
	"os"
	"strings"
	"text/tabwriter"
)

// shownLayers are those of the built-in image encoder that stand for early, middle and late ones; head is what it gives.
var shownLayers = []string{"stages.0", "stages.2", "stages.4", "head"}

// allLayers runs the preset layers for each of them and puts the outcomes beside each other: a flow that knows more of a picture has the
// lower likelihood left to explain, and samples that differ less.
func (p *presetRun) allLayers(ctx context.Context, s stdio, l *lesson, q preset) error {
	out := presetFiles{p.folder, q.name}
	if taken(out.sheet()) && !p.force {
		return existsError(out.sheet())
	}
	var text strings.Builder
	t := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "preset %s: %s\nNLL in nats per dimension of z; samples: root mean square differences of colours, of 255\n\n", q.name, q.brief)
	fmt.Fprintf(t, "layer\tflow\tridge\tMLP\tsamples from the truth\tsamples from each other\n")
	rows := make([][]*image.NRGBA, sheetRows)
	for _, p.layer = range shownLayers {
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
		for i, row := range o.rows {
			if len(rows[i]) == 0 {
				rows[i] = row[:1]
			}
			rows[i] = append(rows[i], row[1:3]...)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if err := out.writeSheet(rows); err != nil {
		return err
	}
	if err := os.WriteFile(out.table(), []byte(text.String()), 0o644); err != nil {
		return err
	}
	_, err := fmt.Fprintf(s.out, "%s\n%s and %s, and a pack, a sheet and a table for each layer\n", text.String(), out.sheet(), out.table())
	return err
}
