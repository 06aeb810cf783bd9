# What the examples' scripts share; to be sourced.

say() { # print a command as one would type it, then run it
    printf '$'
    for word in "$@"; do
        case $word in *[!A-Za-z0-9_./,:=+~-]*) printf " '%s'" "$word" ;; *) printf ' %s' "$word" ;; esac
    done
    echo
    "$@"
}

make() { [ -e "$1" ] || { shift; say "$@"; }; } # make TARGET COMMAND...: unless the target is there
