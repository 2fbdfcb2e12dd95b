// Judges the registers of one of our histories with Porcupine, a public linearizability checker that shares nothing with
// ours: its own search, its own language. See ../README.md, "A second opinion".
//
//	go run . RUN_FOLDER/history.edn...
//
// Prints one line a file. Ends with 0 when every register is linearizable, 1 when one is not, 2 when a file can't be
// read or a register can't be decided in time.
package main

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"time"

	"github.com/anishathalye/porcupine"
)

const nothing = "nil"

// patience is for one file.
const patience = 5 * time.Minute

// action is an operation on one register; to and from are texts of numbers, or nothing.
type action struct {
	kind, key, from, to string
}

// outcome says what came of an action: known is false when nobody was told.
type outcome struct {
	known, matched bool
	value          string
}

// The lines that concern registers, as the README describes them.
var line = regexp.MustCompile(
	`:process (\d+), :type :(\w+), :f :(read|write|cas), ` +
		`:value \[(\d+) (?:(nil|-?\d+)|\[(-?\d+) (-?\d+)\])\](?:, :error "(mismatch)?)?`)

var model = porcupine.Model{
	PartitionEvent: partition,
	Init:           func() interface{} { return nothing },
	Step: func(state, input, output interface{}) (bool, interface{}) {
		held, act, out := state.(string), input.(action), output.(outcome)
		switch act.kind {
		case "read":
			return !out.known || out.value == held, state
		case "write":
			return true, act.to
		}
		if held == act.from {
			return !out.known || out.matched, act.to
		}
		return !out.known || !out.matched, state
	},
}

func partition(events []porcupine.Event) [][]porcupine.Event {
	registers := map[string][]porcupine.Event{}
	owner := map[int]string{}
	for _, event := range events {
		if act, begins := event.Value.(action); begins {
			owner[event.Id] = act.key
		}
		key := owner[event.Id]
		registers[key] = append(registers[key], event)
	}
	parts := make([][]porcupine.Event, 0, len(registers))
	for _, part := range registers {
		parts = append(parts, part)
	}
	return parts
}

// read gives the operations of a history. Those that surely had no effect are left out; those nobody knows of end last.
func read(path string) ([]porcupine.Event, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var events []porcupine.Event
	running := map[string]int{} // the operation of each process
	dropped := map[int]bool{}
	unknown := []int{}
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 1<<24)
	for id := 0; scanner.Scan(); id++ {
		found := line.FindStringSubmatch(scanner.Text())
		if found == nil {
			continue
		}
		process, kind, act := found[1], found[2], action{found[3], found[4], found[6], found[5] + found[7]}
		begun, known := running[process]
		delete(running, process)
		client, _ := strconv.Atoi(process)
		event := porcupine.Event{ClientId: client, Kind: porcupine.ReturnEvent, Id: begun}
		switch {
		case kind == "invoke" && !known:
			running[process] = id
			event = porcupine.Event{ClientId: client, Kind: porcupine.CallEvent, Value: act, Id: id}
		case !known:
			return nil, fmt.Errorf("line %d: process %s ends what it has not begun", id+1, process)
		case kind == "ok":
			event.Value = outcome{known: true, matched: true, value: act.to}
		case kind == "fail" && act.kind == "cas" && found[8] != "":
			event.Value = outcome{known: true, matched: false}
		case kind == "fail":
			dropped[begun] = true
			continue
		case kind == "info":
			unknown = append(unknown, begun)
			continue
		default:
			return nil, fmt.Errorf("line %d: %s begins twice", id+1, process)
		}
		events = append(events, event)
	}
	for _, left := range running {
		unknown = append(unknown, left)
	}
	for _, id := range unknown {
		events = append(events, porcupine.Event{Kind: porcupine.ReturnEvent, Value: outcome{}, Id: id})
	}
	kept := events[:0]
	for _, event := range events {
		if !dropped[event.Id] {
			kept = append(kept, event)
		}
	}
	return kept, scanner.Err()
}

func main() {
	worst := 0
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "which histories? go run . RUN_FOLDER/history.edn...")
		worst = 2
	}
	for _, path := range os.Args[1:] {
		events, err := read(path)
		if err == nil && len(events) == 0 {
			err = fmt.Errorf("no operation on a register")
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
			worst = 2
			continue
		}
		verdict := porcupine.CheckEventsTimeout(model, events, patience)
		fmt.Printf("%s: %d operations on %d registers: %s\n", path, len(events)/2, len(partition(events)),
			map[porcupine.CheckResult]string{
				porcupine.Ok: "linearizable", porcupine.Illegal: "not linearizable", porcupine.Unknown: "undecided",
			}[verdict])
		switch {
		case verdict == porcupine.Illegal && worst == 0:
			worst = 1
		case verdict == porcupine.Unknown:
			worst = 2
		}
	}
	os.Exit(worst)
}
