{{/* Labels by which pods are found; they never change. Takes a dict of root ($) and component, as pelagos.labels does. */}}
{{- define "pelagos.selectorLabels" -}}
app.kubernetes.io/name: pelagos-operator
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The labels that Kubernetes recommends. */}}
{{- define "pelagos.labels" -}}
{{ include "pelagos.selectorLabels" . }}
{{ include "pelagos.releaseLabels" .root }}
{{- end }}

{{/* Those of them that are alike for all components. */}}
{{- define "pelagos.releaseLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: pelagos
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels of a namespace in which only restricted pods run. */}}
{{- define "pelagos.restrictedLabels" -}}
pod-security.kubernetes.io/enforce: restricted
pod-security.kubernetes.io/enforce-version: latest
pod-security.kubernetes.io/audit: restricted
pod-security.kubernetes.io/audit-version: latest
pod-security.kubernetes.io/warn: restricted
pod-security.kubernetes.io/warn-version: latest
{{- end }}

{{/* The namespace that is watched, where it is one. */}}
{{- define "pelagos.watchedNamespace" -}}
{{ .Values.scope.namespace | default .Release.Namespace }}
{{- end }}

{{/* The operator as the subject of a binding. */}}
{{- define "pelagos.subject" -}}
kind: ServiceAccount
name: pelagos-operator
namespace: {{ .Release.Namespace | quote }}
{{- end }}

{{/* The role of a feature: core, the serving engine, or kubeflow. */}}
{{- define "pelagos.roleName" -}}
{{ eq . "core" | ternary "pelagos-operator" (printf "pelagos-operator-%s" .) }}
{{- end }}

{{/* Egress to peers among the values. Nobody is no rule: one without peers would be to everybody. Takes root and a list of names. */}}
{{- define "pelagos.egress" -}}
{{- range .to }}
{{- with index $.root.Values.networkPolicies . }}
{{- if .peers }}
- to: {{ .peers | toJson }}
  ports: {{ .ports | toJson }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* A generated object of files/, with the labels of this release. Takes root and object. */}}
{{- define "pelagos.generated" -}}
{{- $labels := .object.metadata.labels }}
{{- $_ := set $labels "app.kubernetes.io/instance" .root.Release.Name }}
{{- $_ := set $labels "app.kubernetes.io/version" .root.Chart.AppVersion }}
{{- $_ := set $labels "app.kubernetes.io/managed-by" .root.Release.Service }}
{{- range $name, $value := .root.Values.commonLabels }}
{{- $_ := set $labels $name $value }}
{{- end }}
{{- toYaml .object }}
{{- end }}

{{/* Not empty where KServe's storage initializer fetches packages from object storage, by the keys of a Secret. */}}
{{- define "pelagos.kserveFetches" -}}
{{- if and (eq .Values.engines.serving "kserve") (hasPrefix "s3://" .Values.storage.objects) .Values.storage.tenantSecret }}true{{ end }}
{{- end }}
