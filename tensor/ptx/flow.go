package ptx

// joins sets where the paths of each branch meet again: the branch's immediate post-dominator, at which a SIMT stack
// reconverges whatever the order of the blocks in the text.
func joins(code []inst) {
	n := len(code)
	exit := n // a node after all code, to which every ending goes
	leader := make([]bool, n+1)
	leader[0] = true
	for i := range code {
		in := &code[i]
		switch in.class {
		case branchClass:
			leader[in.target], leader[i+1] = true, true
		case tableClass:
			leader[i+1] = true
			for _, t := range in.targets {
				leader[t] = true
			}
		case exitClass:
			leader[i+1] = true
		}
	}
	// Blocks are numbered in order; block[i] is that of instruction i.
	block := make([]int, n+1)
	var last []int // last instruction of each block
	for i := range n {
		if leader[i] {
			last = append(last, 0)
		}
		block[i] = len(last) - 1
		last[len(last)-1] = i
	}
	nodes := len(last) + 1
	block[exit] = nodes - 1
	before := make([][]int, nodes) // predecessors
	after := make([][]int, nodes)
	edge := func(from, to int) {
		after[from] = append(after[from], to)
		before[to] = append(before[to], from)
	}
	for b, i := range last {
		in := &code[i]
		always := in.guard == 0
		switch in.class {
		case branchClass:
			edge(b, block[in.target])
		case tableClass:
			for _, t := range in.targets {
				edge(b, block[t])
			}
		case exitClass:
			edge(b, nodes-1)
		default:
			always = false
		}
		if !always {
			edge(b, block[i+1])
		}
	}
	next := postDominators(before, after)
	first := make([]int32, nodes)
	for i := n - 1; i >= 0; i-- {
		first[block[i]] = int32(i)
	}
	first[nodes-1] = noJoin
	for b, i := range last {
		code[i].join = noJoin
		if next[b] >= 0 {
			code[i].join = first[next[b]]
		}
	}
}

// postDominators returns each node's immediate post-dominator, -1 where no path leads to the last node: the algorithm
// of Cooper, Harvey and Kennedy ("A Simple, Fast Dominance Algorithm", 2001) on the reversed graph.
func postDominators(before, after [][]int) []int {
	root := len(before) - 1
	number := make([]int, len(before)) // in the post-order of a walk backwards from root
	for i := range number {
		number[i] = -1
	}
	var order []int
	type step struct{ node, edge int }
	seen := make([]bool, len(before))
	seen[root] = true
	for walk := []step{{root, 0}}; len(walk) > 0; {
		top := &walk[len(walk)-1]
		if top.edge < len(before[top.node]) {
			to := before[top.node][top.edge]
			top.edge++
			if !seen[to] {
				seen[to] = true
				walk = append(walk, step{to, 0})
			}
			continue
		}
		number[top.node] = len(order)
		order = append(order, top.node)
		walk = walk[:len(walk)-1]
	}
	next := make([]int, len(before))
	for i := range next {
		next[i] = -1
	}
	next[root] = root
	for changed := true; changed; {
		changed = false
		for i := len(order) - 2; i >= 0; i-- {
			node, best := order[i], -1
			for _, to := range after[node] {
				if number[to] < 0 || next[to] < 0 {
					continue
				}
				if best < 0 {
					best = to
					continue
				}
				for a, b := to, best; ; {
					if a == b {
						best = a
						break
					}
					if number[a] < number[b] {
						a = next[a]
					} else {
						b = next[b]
					}
				}
			}
			if next[node] != best {
				next[node], changed = best, true
			}
		}
	}
	return next
}
