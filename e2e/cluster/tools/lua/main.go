// Argocd-lua runs one of our scripts for Argo CD as Argo CD runs it: in its interpreter, with the libraries that it opens
// for a customisation (no string, no math, no io; what it lets through of os nothing of ours needs), within its one
// second, and with its way of turning tables into JSON. Argo CD itself would be three hundred modules.
//
//	argocd-lua health|discovery|action SCRIPT <OBJECT
//
// reads the object as JSON and prints, as JSON, the health, the actions, or the object after the action.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	lua "github.com/yuin/gopher-lua"
	luajson "layeh.com/gopher-json"
)

// As long as Argo CD lets a script run.
const patience = time.Second

func main() {
	if len(os.Args) != 3 {
		fail(fmt.Errorf("usage: argocd-lua health|discovery|action SCRIPT <OBJECT"))
	}
	answer, err := run(os.Args[1], os.Args[2], os.Stdin)
	if err != nil {
		fail(err)
	}
	fmt.Println(string(answer))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "argocd-lua:", err)
	os.Exit(1)
}

func run(what, path string, input io.Reader) ([]byte, error) {
	script, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var object map[string]any
	if err := json.NewDecoder(input).Decode(&object); err != nil {
		return nil, fmt.Errorf("the object: %w", err)
	}
	returned, err := evaluate(string(script), object)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	switch what {
	case "health":
		return health(returned)
	case "discovery":
		return json.Marshal(returned)
	case "action":
		return json.Marshal(mapsStayMaps(returned, object))
	default:
		return nil, fmt.Errorf("there is no %q: health, discovery or action", what)
	}
}

// evaluate gives back what the script returns, by way of JSON.
func evaluate(script string, object map[string]any) (any, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage},
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
	} {
		open := lua.P{Fn: state.NewFunction(library.open), Protect: true}
		if err := state.CallByParam(open, lua.LString(library.name)); err != nil {
			return nil, err
		}
	}
	limited, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	state.SetContext(limited)
	state.SetGlobal("obj", luajson.DecodeValue(state, object))
	if err := state.DoString(script); err != nil {
		return nil, err
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return nil, fmt.Errorf("it returns a %s, not a table", state.Get(-1).Type())
	}
	text, err := luajson.Encode(table)
	if err != nil {
		return nil, err
	}
	var returned any
	err = json.Unmarshal(text, &returned)
	return returned, err
}

// health refuses what Argo CD would show as "Lua returned an invalid health status".
func health(returned any) ([]byte, error) {
	table, _ := returned.(map[string]any)
	switch table["status"] {
	case "Healthy", "Progressing", "Suspended", "Degraded", "Missing", "Unknown":
		return json.Marshal(table)
	default:
		return nil, fmt.Errorf("%v is no health status of Argo CD", table["status"])
	}
}

// mapsStayMaps undoes what Lua, where an empty map is an empty list, does to the parts of an object that were left alone.
func mapsStayMaps(after, before any) any {
	switch after := after.(type) {
	case map[string]any:
		if before, ok := before.(map[string]any); ok {
			for key, value := range after {
				after[key] = mapsStayMaps(value, before[key])
			}
		}
	case []any:
		if before, ok := before.(map[string]any); ok && len(after) == 0 && len(before) == 0 {
			return before
		}
		if before, ok := before.([]any); ok && len(before) == len(after) {
			for index, value := range after {
				after[index] = mapsStayMaps(value, before[index])
			}
		}
	}
	return after
}
