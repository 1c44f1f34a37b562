# Sourced by the other scripts: goes to the repository's root, makes .venv once and brings it up to date when
# pyproject.toml changes; sets $python. Usage: . scripts/_setup.sh GROUP...
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

fail() {
    echo "$1" >&2
    exit 1
}

# Makes .venv with the first Python that is new enough; the venv's own decides ever after.
make_venv() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11 python; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then
            echo "Making .venv with $("$candidate" --version) ..."
            "$candidate" -m venv --clear .venv || fail "cannot make .venv: python's venv module is missing"
            return
        fi
    done
    fail "numbaopt needs Python 3.11 to 3.14; set PYTHON to one"
}

python=.venv/bin/python
"$python" -c 'import pip' 2>/dev/null || make_venv

groups=() stamp=$("$python" -c 'import hashlib; print(hashlib.sha256(open("pyproject.toml", "rb").read()).hexdigest())')
for group in "$@"; do
    groups+=(--group "$group")
done
for wanted in all "$@"; do  # one stamp a group: what one script has installed, another need not
    if [ "$(cat ".venv/stamp-$wanted" 2>/dev/null)" != "$stamp" ]; then
        echo "Installing numbaopt${1:+ and what is needed for: $*} into .venv ..."
        "$python" -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' || exit 1
        "$python" -m pip install --quiet --editable '.[all]' ${groups[@]+"${groups[@]}"} || exit 1
        for done in all "$@"; do
            echo "$stamp" >".venv/stamp-$done"
        done
        break
    fi
done
