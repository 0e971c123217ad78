package bert

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// Limits on a vocabulary file, far above any in use (the multilingual one has 120 thousand tokens).
const (
	maxVocabTokens = 1 << 20
	maxTokenBytes  = 1 << 10
	maxVocabBytes  = 1 << 24
)

// readTokens returns the lines of a vocab.txt; the id of a token is its line number.
func readTokens(r io.Reader) ([]string, error) {
	var tokens []string
	total := 0
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxTokenBytes+2)
	for s.Scan() {
		token := strings.TrimRight(s.Text(), " \t\r\n")
		total += len(token)
		if len(tokens) == maxVocabTokens || total > maxVocabBytes {
			return nil, fmt.Errorf("vocabulary: line %d: more than %d tokens or %d bytes", len(tokens)+1, maxVocabTokens, maxVocabBytes)
		}
		tokens = append(tokens, token)
	}
	if err := s.Err(); err == bufio.ErrTooLong {
		return nil, fmt.Errorf("vocabulary: line %d: longer than %d bytes", len(tokens)+1, maxTokenBytes)
	} else if err != nil {
		return nil, fmt.Errorf("vocabulary: line %d: %w", len(tokens)+1, err)
	}
	return tokens, nil
}

// trie finds the longest token that a byte string starts with. Its edges live in one open-addressed hash table: built
// in linear time whatever the vocabulary, a few cache lines read per byte.
type trie struct {
	edges []edge  // a power of two of them, at most half used
	ids   []int32 // [nodes] the token that ends here, or -1
	shift uint8   // of the hash, 32 - log2(len(edges))
}

// edge leads from a node by a byte to another node; key 0, which no edge has, is free.
type edge struct{ key, to uint32 }

// Nodes 1 and 2 are the roots; there is no node 0, so that no key is 0.
const (
	rootInitial      = 1 // tokens that begin a word
	rootContinuation = 2 // tokens after "##"
)

func newTrie(tokens []string) *trie {
	total := 4
	for _, t := range tokens {
		total += len(t)
	}
	t := &trie{shift: 31, ids: []int32{-1, -1, -1}}
	for 1<<(32-t.shift) < 2*total {
		t.shift--
	}
	t.edges = make([]edge, 1<<(32-t.shift))
	for id, token := range tokens {
		if rest, ok := strings.CutPrefix(token, "##"); ok {
			t.insert(rootContinuation, rest, int32(id))
		} else {
			t.insert(rootInitial, token, int32(id))
		}
	}
	return t
}

func (t *trie) insert(node uint32, token string, id int32) {
	for i := range len(token) {
		e := t.find(node, token[i])
		if e.key == 0 {
			*e = edge{node<<8 | uint32(token[i]), uint32(len(t.ids))}
			t.ids = append(t.ids, -1)
		}
		node = e.to
	}
	t.ids[node] = id // of equal lines the last counts
}

// find returns the edge from node by c, or the free slot where it would be.
func (t *trie) find(node uint32, c byte) *edge {
	key := node<<8 | uint32(c)
	mask := uint32(len(t.edges) - 1)
	for i := key * 0x9E3779B1 >> t.shift; ; i++ { // Fibonacci hashing
		if e := &t.edges[i&mask]; e.key == key || e.key == 0 {
			return e
		}
	}
}
