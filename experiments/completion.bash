# Completion of `prognax` in bash: tasks, then the keys and choices of the task, also those of a folder after --config-dir.
_prognax()
{
    local word="${COMP_WORDS[COMP_CWORD]}" choices folder="" i
    if [ "$COMP_CWORD" -eq 1 ]; then
        choices=$(prognax --help | sed -n 's/^  \([a-z-]*\)  .*/\1/p')
    else
        for ((i = 2; i < COMP_CWORD; i++)); do
            if [ "${COMP_WORDS[i]}" = "--config-dir" ]; then folder="${COMP_WORDS[i + 1]}"; fi
        done
        local line="prognax ${COMP_WORDS[*]:2:COMP_CWORD-1}"
        choices=$(COMP_POINT=${#line} COMP_LINE="$line" prognax "${COMP_WORDS[1]}" ${folder:+--config-dir "$folder"} -sc query=bash 2>/dev/null)
    fi
    COMPREPLY=($(compgen -o nospace -o default -W "$choices" -- "$word"))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _prognax prognax
