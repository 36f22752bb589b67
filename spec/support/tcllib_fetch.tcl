# Fetches and deletes a maildrop: PORT OUT.  Message n goes to OUT/n.  Further
# arguments are numbers of messages to leave for a second session in the
# client's slow mode.
package require pop3


proc fetch {channel out numbers number_from} {
    foreach n $numbers {
        set file [open $out/[expr {$n + $number_from}] wb]
        puts -nonewline $file [lindex [::pop3::retrieve $channel $n] 0]
        close $file
        ::pop3::delete $channel $n
    }
    ::pop3::close $channel
}

lassign $argv port out
set slow [lrange $argv 2 end]
set channel [::pop3::open 127.0.0.1 joe secret $port]
set numbers {}
for {set n 1} {$n <= [lindex [::pop3::status $channel] 0]} {incr n} {
    if {$n ni $slow} { lappend numbers $n }
}
fetch $channel $out $numbers 0

# These are numbered from 1 in their own session.
set session 0
foreach n $slow {
    set channel [::pop3::open -retr-mode slow 127.0.0.1 joe secret $port]
    fetch $channel $out 1 [expr {$n - 1}]
}
