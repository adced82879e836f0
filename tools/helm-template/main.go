// Renders a Helm chart as `helm template` does, with the same libraries: Go's text/template and sprig.
//
//	helm-template CHART RELEASE NAMESPACE [VALUES.yaml ...]
//
// Understood: .Values, .Release, .Chart, .Capabilities, .Files, .Template, partials, include, tpl, required, fail, lookup (finds
// nothing), toYaml, fromYaml, toJson, fromJson. Subcharts, hooks and the order of installation are not. Used by tests alone.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"gopkg.in/yaml.v3"
)

type dict = map[string]interface{}

// files is .Files: all of the chart but its templates.
type files map[string]string

func (f files) Get(name string) string { return f[name] }

func (f files) Glob(pattern string) files {
	found := files{}
	for name, text := range f {
		if matches, err := path.Match(pattern, name); err == nil && matches {
			found[name] = text
		}
	}
	return found
}

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: helm-template CHART RELEASE NAMESPACE [VALUES.yaml ...]")
		os.Exit(2)
	}
	out, err := render(os.Args[1], os.Args[2], os.Args[3], os.Args[4:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
	fmt.Print(out)
}

func render(folder, release, namespace string, valueFiles []string) (string, error) {
	chart, err := readYaml(filepath.Join(folder, "Chart.yaml"))
	if err != nil {
		return "", err
	}
	values, err := merged(append([]string{filepath.Join(folder, "values.yaml")}, valueFiles...))
	if err != nil {
		return "", err
	}
	templates, others, err := read(folder)
	if err != nil {
		return "", err
	}
	top := dict{
		"Values":  values,
		"Chart":   titled(chart),
		"Release": dict{"Name": release, "Namespace": namespace, "Service": "Helm", "Revision": 1, "IsInstall": true, "IsUpgrade": false},
		"Capabilities": dict{
			"KubeVersion": dict{"Version": "v1.31.0", "Major": "1", "Minor": "31"},
			"APIVersions": []string{"v1", "apps/v1"},
		},
		"Files": others,
	}
	return execute(templates, top, fmt.Sprint(chart["name"]))
}

func execute(templates map[string]string, top dict, chart string) (string, error) {
	tree := template.New("chart").Option("missingkey=zero")
	tree.Funcs(functions(tree))
	names := make([]string, 0, len(templates))
	for name, text := range templates {
		if _, err := tree.New(chart + "/" + name).Parse(text); err != nil {
			return "", err
		}
		names = append(names, name)
	}
	sort.Strings(names)
	var all strings.Builder
	for _, name := range names {
		if strings.HasPrefix(path.Base(name), "_") || strings.HasSuffix(name, ".txt") {
			continue
		}
		top["Template"] = dict{"Name": chart + "/" + name, "BasePath": chart + "/templates"}
		var out bytes.Buffer
		if err := tree.ExecuteTemplate(&out, chart+"/"+name, top); err != nil {
			return "", err
		}
		// What Helm does: a missing value prints as nothing.
		fmt.Fprintf(&all, "---\n# Source: %s/%s\n%s\n", chart, name, strings.ReplaceAll(out.String(), "<no value>", ""))
	}
	return all.String(), nil
}

func functions(tree *template.Template) template.FuncMap {
	found := sprig.TxtFuncMap()
	// Helm takes these away: a chart must not see the machine.
	delete(found, "env")
	delete(found, "expandenv")
	found["include"] = func(name string, data interface{}) (string, error) {
		var out strings.Builder
		err := tree.ExecuteTemplate(&out, name, data)
		return out.String(), err
	}
	found["tpl"] = func(text string, data interface{}) (string, error) {
		copied, err := tree.Clone()
		if err != nil {
			return "", err
		}
		parsed, err := copied.New("tpl").Parse(text)
		if err != nil {
			return "", err
		}
		var out strings.Builder
		err = parsed.Execute(&out, data)
		return out.String(), err
	}
	found["required"] = func(message string, value interface{}) (interface{}, error) {
		if text, isText := value.(string); value == nil || isText && text == "" {
			return value, errors.New(message)
		}
		return value, nil
	}
	found["fail"] = func(message string) (string, error) { return "", errors.New(message) }
	found["lookup"] = func(_, _, _, _ string) dict { return dict{} }
	found["toYaml"] = func(value interface{}) string {
		var out bytes.Buffer
		encoder := yaml.NewEncoder(&out)
		encoder.SetIndent(2)
		if err := encoder.Encode(value); err != nil {
			return ""
		}
		return strings.TrimSuffix(out.String(), "\n")
	}
	found["fromYaml"] = func(text string) dict {
		parsed, err := parse([]byte(text))
		if err != nil {
			return dict{"Error": err.Error()}
		}
		return parsed
	}
	found["toJson"] = func(value interface{}) string {
		out, err := json.Marshal(value)
		if err != nil {
			return ""
		}
		return string(out)
	}
	return found
}

// parse goes through JSON as Helm does: every number is a float64.
func parse(text []byte) (dict, error) {
	var raw dict
	if err := yaml.Unmarshal(text, &raw); err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(raw)
	if err != nil {
		return nil, err
	}
	found := dict{}
	return found, json.Unmarshal(encoded, &found)
}

func readYaml(file string) (dict, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parse(text)
}

func merged(valueFiles []string) (dict, error) {
	found := dict{}
	for _, file := range valueFiles {
		next, err := readYaml(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		found = merge(found, next)
	}
	return found, nil
}

// merge as Helm does: maps are merged, anything else is replaced, null removes.
func merge(old, next dict) dict {
	for key, value := range next {
		before, wasMap := old[key].(dict)
		after, isMap := value.(dict)
		switch {
		case value == nil:
			delete(old, key)
		case wasMap && isMap:
			old[key] = merge(before, after)
		default:
			old[key] = value
		}
	}
	return old
}

func titled(chart dict) dict {
	found := dict{}
	for key, value := range chart {
		found[strings.ToUpper(key[:1])+key[1:]] = value
	}
	return found
}

func read(folder string) (map[string]string, files, error) {
	templates, others := map[string]string{}, files{}
	err := filepath.WalkDir(folder, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, file)
		if strings.HasPrefix(name, "templates/") {
			templates[name] = string(text)
		} else {
			others[name] = string(text)
		}
		return err
	})
	return templates, others, err
}
