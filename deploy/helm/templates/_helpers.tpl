{{- define "gateway.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels of everything. Call with the root, and `process` for what belongs to one kind of process. */}}
{{- define "gateway.labels" -}}
app.kubernetes.io/name: ai-gateway
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- with .process }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "gateway.selector" -}}
app.kubernetes.io/name: ai-gateway
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .process }}
{{- end -}}

{{- define "gateway.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{/* The keys of the Secret that a process needs: JSON, in a fixed order. */}}
{{- define "gateway.secretKeys" -}}
{{- $values := .root.Values -}}
{{- $keys := list -}}
{{- if eq .process "migrate" -}}
{{- $keys = list "database_url_of_owner" "database_url_of_api" -}}
{{- else -}}
{{- $keys = list (printf "database_url_of_%s" .process) "metrics_token" -}}
{{- if $values.nats.credentials -}}{{- $keys = append $keys "nats_seed" -}}{{- end -}}
{{- if $values.nats.clientCertificate -}}{{- $keys = concat $keys (list "gateway_certificate" "gateway_key") -}}{{- end -}}
{{- end -}}
{{- if $values.authority -}}{{- $keys = append $keys "authority" -}}{{- end -}}
{{- if eq .process "api" -}}{{- $keys = concat $keys (list "encryption_key" "master_key") -}}{{- end -}}
{{- if eq .process "worker" -}}
{{- $keys = append $keys "encryption_key" -}}
{{- range $values.providers -}}{{- $keys = append $keys (printf "%s_api_key" .) -}}{{- end -}}
{{- range $provider, $_ := $values.furtherKeys -}}{{- $keys = append $keys (printf "%s_api_keys" $provider) -}}{{- end -}}
{{- end -}}
{{- if or (eq .process "api") (eq .process "worker") -}}
{{- with $values.telemetry.headersKey -}}{{- $keys = append $keys . -}}{{- end -}}
{{- end -}}
{{- if eq .process "projector" -}}
{{- $keys = append $keys "audit_key" -}}
{{- with $values.projector.anchors.webhookKey -}}{{- $keys = append $keys . -}}{{- end -}}
{{- with $values.projector.anchors.objectStoreKey -}}{{- $keys = append $keys . -}}{{- end -}}
{{- end -}}
{{- toJson $keys -}}
{{- end -}}

{{/* The environment of a process: no secret, only the files that have them. */}}
{{- define "gateway.environment" -}}
{{- $values := .root.Values -}}
{{- if eq .process "migrate" }}
- { name: GATEWAY_MIGRATION_DATABASE_URL_FILE, value: /run/secrets/database_url_of_owner }
- { name: GATEWAY_DATABASE_URL_FILE, value: /run/secrets/database_url_of_api }
- { name: GATEWAY_DATABASE_ROLES, value: {{ $values.database.roles | quote }} }
{{- else }}
- { name: GATEWAY_DATABASE_URL_FILE, value: /run/secrets/database_url_of_{{ .process }} }
- { name: GATEWAY_NATS_URL, value: {{ $values.nats.url | quote }} }
{{- if $values.nats.credentials }}
- { name: GATEWAY_NATS_CREDS, value: /run/secrets/nats_seed }
{{- end }}
{{- if $values.authority }}
- { name: GATEWAY_NATS_CA, value: /run/secrets/authority }
{{- end }}
{{- if $values.nats.clientCertificate }}
- { name: GATEWAY_NATS_CERT, value: /run/secrets/gateway_certificate }
- { name: GATEWAY_NATS_KEY, value: /run/secrets/gateway_key }
{{- end }}
{{- with $values.nats.replicas }}
- { name: GATEWAY_NATS_REPLICAS, value: {{ . | quote }} }
{{- end }}
- { name: GATEWAY_METRICS_HOST, value: {{ $values.address | quote }} }
- { name: GATEWAY_METRICS_PORT, value: "9464" }
- { name: GATEWAY_METRICS_TOKEN_FILE, value: /run/secrets/metrics_token }
{{- end }}
{{- if eq .process "api" }}
- { name: GATEWAY_ENCRYPTION_KEY_FILE, value: /run/secrets/encryption_key }
- { name: GATEWAY_MASTER_KEY_FILE, value: /run/secrets/master_key }
{{- $credentials := $values.providers }}
{{- range $provider, $names := $values.furtherKeys }}
{{- range $names }}{{ $credentials = append $credentials (printf "%s/%s" $provider .) }}{{ end }}
{{- end }}
- { name: GATEWAY_INSTALLATION_PROVIDERS, value: {{ join "," $credentials | quote }} }
{{- end }}
{{- if eq .process "worker" }}
- { name: GATEWAY_ENCRYPTION_KEY_FILE, value: /run/secrets/encryption_key }
{{- range $values.providers }}
- { name: {{ upper . }}_API_KEY_FILE, value: /run/secrets/{{ . }}_api_key }
{{- end }}
{{- range $provider, $_ := $values.furtherKeys }}
- { name: GATEWAY_{{ upper $provider }}_API_KEYS_FILE, value: /run/secrets/{{ $provider }}_api_keys }
{{- end }}
{{- end }}
{{- if or (eq .process "api") (eq .process "worker") }}
{{- with $values.telemetry.endpoint }}
- { name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }} }
{{- end }}
{{- with $values.telemetry.headersKey }}
- { name: OTEL_EXPORTER_OTLP_HEADERS_FILE, value: /run/secrets/{{ . }} }
{{- end }}
{{- end }}
{{- if eq .process "projector" }}
- { name: GATEWAY_AUDIT_KEY_FILE, value: /run/secrets/audit_key }
{{- with $values.projector.anchors.webhookKey }}
- { name: GATEWAY_AUDIT_WEBHOOK_FILE, value: /run/secrets/{{ . }} }
{{- end }}
{{- with $values.projector.anchors.objectStoreKey }}
- { name: GATEWAY_AUDIT_OBJECT_STORE_FILE, value: /run/secrets/{{ . }} }
{{- end }}
{{- if $values.projector.anchors.claim }}
- { name: GATEWAY_AUDIT_ANCHOR_FILE, value: /anchors/audit.anchors }
{{- end }}
{{- end }}
{{- if ne .process "migrate" }}
{{- range $name, $value := $values.settings }}
- { name: {{ $name }}, value: {{ $value | quote }} }
{{- end }}
{{- end }}
{{- end -}}

{{/* The pod of a process. Call with `root`, `process`, `arguments` and `resources`. */}}
{{- define "gateway.pod" -}}
{{- $values := .root.Values -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: { type: RuntimeDefault }
terminationGracePeriodSeconds: 45
{{- with $values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- if ne .process "migrate" }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "gateway.selector" . | nindent 8 }}
{{- end }}
containers:
  - name: gateway
    image: {{ include "gateway.image" .root | quote }}
    imagePullPolicy: {{ $values.image.pullPolicy }}
    args: {{ toJson .arguments }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: { drop: [ALL] }
    resources: {{ toJson .resources }}
    env:
      {{- include "gateway.environment" . | trim | nindent 6 }}
    {{- if ne .process "migrate" }}
    ports:
      {{- if eq .process "api" }}
      - { name: http, containerPort: 3007 }
      {{- end }}
      - { name: health, containerPort: 9464 }
    startupProbe:
      httpGet: { path: /health/live, port: health }
      periodSeconds: 2
      failureThreshold: 60
    # Whether the process answers: one that waits for its servers is not to be restarted.
    livenessProbe:
      httpGet: { path: /health/live, port: health }
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
    {{- if eq .process "api" }}
    # Not /health/ready: what it looks at is shared. All pods would leave the Service at once, and callers would have no
    # answer at all instead of 503 with Retry-After.
    readinessProbe:
      httpGet: { path: /health/live, port: health }
      periodSeconds: 5
      timeoutSeconds: 5
    # Requests still come while the endpoints' change goes round. Then the process finishes those that it has.
    lifecycle:
      preStop: { sleep: { seconds: 5 } }
    {{- else }}
    readinessProbe:
      httpGet: { path: /health/ready, port: health }
      periodSeconds: 5
      timeoutSeconds: 5
    {{- end }}
    {{- end }}
    volumeMounts:
      - { name: secrets, mountPath: /run/secrets, readOnly: true }
      - { name: tmp, mountPath: /tmp }
      {{- if and (eq .process "projector") $values.projector.anchors.claim }}
      - { name: anchors, mountPath: /anchors }
      {{- end }}
volumes:
  - name: secrets
    secret:
      secretName: {{ $values.secretName }}
      defaultMode: 0440
      items:
        {{- range fromJsonArray (include "gateway.secretKeys" .) }}
        - { key: {{ . }}, path: {{ . }} }
        {{- end }}
  - name: tmp
    emptyDir: { medium: Memory, sizeLimit: 64Mi }
  {{- if and (eq .process "projector") $values.projector.anchors.claim }}
  - name: anchors
    persistentVolumeClaim: { claimName: {{ $values.projector.anchors.claim }} }
  {{- end }}
{{- end -}}

{{/* A Deployment of one kind of process. Call as gateway.pod, with `replicas` (null: an autoscaler decides). */}}
{{- define "gateway.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "gateway.name" .root }}-{{ .process }}
  labels:
    {{- include "gateway.labels" . | nindent 4 }}
spec:
  {{- with .replicas }}
  replicas: {{ . }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "gateway.selector" . | nindent 6 }}
  strategy:
    type: RollingUpdate
    rollingUpdate: { maxUnavailable: 1, maxSurge: 1 }
  template:
    metadata:
      labels:
        {{- include "gateway.labels" . | nindent 8 }}
    spec:
      {{- include "gateway.pod" . | nindent 6 }}
{{- end -}}
