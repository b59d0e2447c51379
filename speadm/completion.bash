# SPDX-License-Identifier: LGPL-2.1-or-later
# bash completion for speadm(1). Verbs and options come from speadm itself, so that they cannot go stale.

_speadm() {
        local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} verb='' i words
        local -a ask=(speadm)

        COMPREPLY=()
        for ((i = 1; i < COMP_CWORD; i++)); do
                case ${COMP_WORDS[i]} in
                --socket) ask+=(--socket "${COMP_WORDS[++i]}") ;;
                -*) ;;
                *)
                        verb=${COMP_WORDS[i]}
                        break
                        ;;
                esac
        done

        case $previous in
        --socket)
                mapfile -t COMPREPLY < <(compgen -f -- "$word")
                return
                ;;
        --instance) words=$("${ask[@]}" --no-legend list 2>/dev/null | awk '{ print $1 }') ;;
        --mode) words='exclusive guest shared' ;;
        --require) words='enforce reserve observe none' ;;
        --vm | --vcpus | --cpus | --buffer | --pid | --cgroup | --for | --grace | --reason | --limit) return ;;
        *)
                if [[ ! $verb && $word == -* ]]; then
                        words='--socket --json --no-legend --help --version'
                elif [[ ! $verb ]]; then
                        words=$(speadm --list-verbs 2>/dev/null)
                elif [[ $word == -* ]]; then
                        words=$(speadm "$verb" --list-options 2>/dev/null)
                else
                        case $verb in
                        assign) words='host guest any none' ;;
                        release | revoke) words=$("${ask[@]}" --no-legend leases 2>/dev/null | awk '{ print $1 }') ;;
                        run)
                                mapfile -t COMPREPLY < <(compgen -c -- "$word")
                                return
                                ;;
                        esac
                fi
                ;;
        esac
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _speadm speadm
