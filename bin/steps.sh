# Sourced by bin/check and bin/test: runs named steps one after the other, whether or not the ones
# before them failed, and remembers which did.
# shellcheck shell=bash

failed=()

# step NAME COMMAND...: one line with the name, ok or FAILED; a failed step's output below it.
step() {
    local name=$1 started=$SECONDS output
    shift
    printf '%-8s' "$name"
    if output=$("$@" 2>&1); then
        printf 'ok      %3d s\n' $((SECONDS - started))
    else
        printf 'FAILED  %3d s: %s\n%s\n' $((SECONDS - started)) "$*" "$output"
        failed+=("$name")
    fi
}

# Exits 1, naming them, if any step failed.
finish() {
    if ((${#failed[@]})); then
        printf 'FAILED: %s\n' "${failed[*]}"
        exit 1
    fi
}
