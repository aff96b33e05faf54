#!/usr/bin/env bash
# Renders the plain manifests from the chart: all of manifests/, or of the folder that is given.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/helm.sh
target=${1:-manifests}
mkdir -p "$target"

render() {
  local name=$1
  shift
  {
    echo "# MetalLB as plain manifests, made from charts/metallb by \`make manifests\`."
    .cache/helm/helm template metallb charts/metallb --namespace metallb-system --set naming=plain "$@" |
      grep -v '^# Source: ' | cat -s
  } >"$target/$name.yaml.new"
  mv "$target/$name.yaml.new" "$target/$name.yaml"
}

render metallb-native
# As kube-prometheus has it: its account, its namespace, and the job called after the component.
render metallb-native-prometheus \
  --set prometheus.serviceMonitor.enabled=true,prometheus.serviceMonitor.interval=30s \
  --set prometheus.serviceMonitor.jobLabel=component \
  --set prometheus.serviceAccount=prometheus-k8s,prometheus.namespace=monitoring
# The other names under which the Go implementation has its manifests: one BGP, in the speaker itself, serves them all.
for mode in frr frr-k8s; do
  ln -sf metallb-native.yaml "$target/metallb-$mode.yaml"
  ln -sf metallb-native-prometheus.yaml "$target/metallb-$mode-prometheus.yaml"
done
