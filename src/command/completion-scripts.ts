/**
 * What `ilbadm completion SHELL` prints: a few lines per shell that hand the words of the line to `ilbadm __complete`
 * and take what comes back. What can stand where is complete.ts's business, so the scripts never grow old.
 *
 * The answer to `__complete` is a line per candidate, the word and behind a tab what it is, and lines that begin with a
 * colon: `:nospace`, the word is not at its end, and `:file`, file names are wanted.
 */

/** Split at blanks by hand: bash itself splits words at `=` and `:`, and gives back only what follows the last of them. */
const BASH = `# bash completion of ilbadm; load it with: source <(ilbadm completion bash)
_ilbadm() {
  local line words word kept
  read -ra words <<< "\${COMP_LINE:0:COMP_POINT}"
  [[ "\${COMP_LINE:0:COMP_POINT}" == *[[:blank:]] ]] && words+=("")
  word=\${words[\${#words[@]}-1]}
  kept=\${word%"\${word##*[=:]}"}
  COMPREPLY=()
  while IFS= read -r line; do
    case $line in
      :nospace) compopt -o nospace 2>/dev/null ;;
      :file) compopt -o default 2>/dev/null ;;
      *) line=\${line%%$'\\t'*}; COMPREPLY+=("\${line#"$kept"}") ;;
    esac
  done < <("\${words[0]}" __complete "\${words[@]:1}" 2>/dev/null)
}
complete -F _ilbadm ilbadm
`;

const ZSH = `#compdef ilbadm
# zsh completion of ilbadm; load it with: source <(ilbadm completion zsh)
_ilbadm() {
  local line
  local -a candidates descriptions nospace
  for line in "\${(@f)$(\${words[1]} __complete "\${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
    case $line in
      '') ;;
      :nospace) nospace=(-S '') ;;
      :file) _files; return ;;
      *) candidates+=("\${line%%$'\\t'*}"); descriptions+=("\${line/$'\\t'/  -- }") ;;
    esac
  done
  compadd $nospace -d descriptions -- $candidates
}
if [ "$funcstack[1]" = "_ilbadm" ]; then _ilbadm "$@"; else compdef _ilbadm ilbadm; fi
`;

const FISH = `# fish completion of ilbadm; load it with: ilbadm completion fish | source
function __ilbadm_complete
  set -l words (commandline -opc) (commandline -ct)
  for line in (command $words[1] __complete $words[2..-1] 2>/dev/null)
    switch $line
      case ':file'
        __fish_complete_path (commandline -ct)
      case ':*'
      case '*'
        echo $line
    end
  end
end
complete -c ilbadm -f -a '(__ilbadm_complete)'
`;

const SCRIPTS: Readonly<Record<string, string>> = Object.freeze({ bash: BASH, zsh: ZSH, fish: FISH });

/** The script of a shell, null for one that has none. */
export const completionScript = (shell: string): string | null =>
  Object.hasOwn(SCRIPTS, shell) ? (SCRIPTS[shell] ?? null) : null;

/** Shells that have a script. */
export const SHELLS: readonly string[] = Object.keys(SCRIPTS);
