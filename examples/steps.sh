# What the examples' scripts share; to be sourced.

usage() { sed -n '1d; /^#/!q; s/^# \{0,1\}//p' "$0"; } # the comment at the head of the script

refuse() { usage >&2; printf '\nerror: %s\n' "$1" >&2; exit 2; } # refuse WHY: for mistakes in the options

# parse REQUIRED OPTIONAL FLAGS "$@": the options of a script, as three lists of variables. `--some-name VALUE` sets some_name, where the list
# says `some_name...` adds a line to it each time, and a flag sets its variable to 1. Those of the required ones and of flags are empty before.
parse() {
    _required=$1 _values=" $1 $2 " _flags=" $3 "
    shift 3
    for _name in $_required $_flags; do eval "$_name="; done
    while [ $# -gt 0 ]; do
        _name=-
        case $1 in
            -h | --help) usage; exit 0 ;;
            *[!a-z0-9-]*) ;;
            --[a-z]*) _name=$(printf '%s' "${1#--}" | tr - _) ;;
        esac
        case $_flags in *" $_name "*) eval "$_name=1"; shift; continue ;; esac
        case $_values in *" $_name "* | *" $_name... "*) ;; *) refuse "there is no option $1" ;; esac
        case ${2---} in --*) refuse "$1 needs a value" ;; esac # nothing follows, or the next option
        case $_values in
            *" $_name "*) eval "$_name=\$2" ;;
            *) eval "$_name=\${$_name:+\$$_name$_newline}\$2" ;;
        esac
        shift 2
    done
    for _name in $_required; do
        eval "[ -n \"\$$_name\" ]" || refuse "--$(printf '%s' "$_name" | tr _ -) is required"
    done
}
_newline='
'

# among OPTION GIVEN CHOICES...: refuse what is none of the choices in the list GIVEN (a,b)
among() {
    _option=$1 _given=$2
    shift 2
    for _name in $(printf '%s' "$_given" | tr , ' '); do
        case " $* " in *" $_name "*) ;; *) refuse "$_option: there is no $_name; choose from: $*" ;; esac
    done
}

show() { # print a command as one would type it
    printf '$'
    for word in "$@"; do
        case $word in *[!A-Za-z0-9_./,:=+~-]*) printf " '%s'" "$word" ;; *) printf ' %s' "$word" ;; esac
    done
    echo
}

say() { show "$@"; "$@"; } # print a command, then run it

# results STEM COMMAND...: what a command prints is also STEM.log, and the last line of that STEM.json; where it fails, the script ends
results() {
    _stem=$1
    shift
    show "$@"
    "$@" >"$_stem.log" || { _code=$?; cat "$_stem.log"; exit "$_code"; }
    cat "$_stem.log"
    tail -n 1 "$_stem.log" >"$_stem.json"
}

make() { [ -e "$1" ] || { shift; say "$@"; }; } # make TARGET COMMAND...: unless the target is there
