#!/usr/bin/env bash
# The peers in short form, a report each: peers.sh TIDEGATE-PERF FOLDER. What one of them cannot
# measure here is told, and the others go on.
set -uo pipefail
read -ra perf <<<"$1"
folder=$2

part() {
  local name=$1
  shift
  echo "peers: $name"
  "${perf[@]}" test "$name" "$@" --output "$folder/$name" || echo "peers: $name was not measured" >&2
}

part cost --over memif --subject tidegate,testpmd-io,testpmd-mac,testpmd-csum --sizes 64 --rounds 5
part ndr --over memif --subject tidegate,testpmd-mac --sizes 64,1518 --duration 50ms --time 30s
part guard-flood --over veth --subject tidegate,synproxy,haproxy,bare --floods 0,10000,100000 --duration 2s
exit 0
