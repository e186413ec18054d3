# Completion of `prognax` in bash: tasks, then the options, keys and groups of the task, also those of a folder of one's own.
_prognax()
{
    local word="${COMP_WORDS[COMP_CWORD]}" choices="" folder="" kept=() i
    if [ "$COMP_CWORD" -eq 1 ]; then
        choices=$(prognax --help | sed -n 's/^  \([a-z-]*\)  .*/\1/p')
    elif [[ "$word" == -* ]]; then
        choices="--help --multirun --config-dir --quiet --verbose"
    else
        for ((i = 2; i < COMP_CWORD; i++)); do
            case "${COMP_WORDS[i]}" in
                --config-dir | -cd) folder="${COMP_WORDS[++i]}" ;;
                --config-dir=*) folder="${COMP_WORDS[i]#*=}" ;;
                -*) ;;
                *) kept+=("${COMP_WORDS[i]}") ;;
            esac
        done
        folder="${folder/#\~/$HOME}"
        if [ "$i" -eq "$COMP_CWORD" ]; then  # else the word is the folder itself
            local line="prognax ${kept[*]} $word"
            choices=$(COMP_POINT=${#line} COMP_LINE="$line" prognax "${COMP_WORDS[1]}" ${folder:+--config-dir "$folder"} -sc query=bash 2>/dev/null)
        fi
    fi
    COMPREPLY=($(compgen -o nospace -o default -W "$choices" -- "$word"))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _prognax prognax
